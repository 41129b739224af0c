"""Fields of bits in Numba: those of all words in 8 bytes at once, under a mask of the low bits of each word.

The stream is written upwards, from the last group of words to the first, and read downwards.
"""

from __future__ import annotations

from typing import Any

from castore.kernels.bits import U, count_ones, gather, load_64, scatter, store_64
from castore.kernels.compiling import helper


@helper
def put(masks: Any, fields: Any, groups: Any, bits: Any, narrow: Any, out: Any, at: Any, held: Any, count: Any) -> Any:
    """Fields from the last group of 8 bytes to the first, upwards from `at`. narrow: no group has more than 57 bits."""
    i = U(groups)
    if narrow:
        while i != U(0):
            i -= U(1)
            mask = masks[i]
            held |= gather(fields[i], mask, bits) << count
            store_64(out, at, held)
            count += count_ones(mask)
            full = count >> U(3)
            held >>= full << U(3)
            at += full
            count &= U(7)
        return at, held, count
    while i != U(0):
        i -= U(1)
        mask = masks[i]
        size = count_ones(mask)
        found = gather(fields[i], mask, bits)
        held |= found << count
        store_64(out, at, held)
        count += size
        if count >= U(64):  # the last bits did not fit in
            count -= U(64)
            held = (found >> U(1)) >> (size - count - U(1))
            at += U(8)
            store_64(out, at, held)
        else:
            full = count >> U(3)
            held >>= full << U(3)
            at += full
            count &= U(7)
    return at, held, count


@helper
def get(masks: Any, groups: Any, bits: Any, narrow: Any, stream: Any, position: Any, fields: Any) -> Any:
    """The inverse, downwards from bit `position`."""
    if narrow:
        for k in range(U(groups)):
            mask = masks[k]
            position -= count_ones(mask)
            fields[k] = scatter(load_64(stream, position >> U(3)) >> (position & U(7)), mask, bits)
        return position
    for k in range(U(groups)):
        mask = masks[k]
        size = count_ones(mask)
        position -= size
        at, part = position >> U(3), position & U(7)
        held = load_64(stream, at) >> part
        if part + size > U(64):
            held |= U(stream[at + U(8)]) << (U(64) - part)
        fields[k] = scatter(held, mask, bits)
    return position
