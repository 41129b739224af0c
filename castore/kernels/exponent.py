"""The typed surface of the exponent coder, for words of 2, 4 or 8 bytes, the bits of floats, at any address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.blocks import BLOCK, LANES, MOST_TABLE_BITS, STATES, UNIT
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.delta import Frequencies
from castore.kernels.reference import Bytes, Words

SYMBOLS = 256
TABLE_BITS = MOST_TABLE_BITS
PAD_BYTES = 8  # behind the planes
SPARE_BYTES = BLOCK * TABLE_BITS // 8 + 64


@dataclass(frozen=True, slots=True)
class Coded:
    """states: the decoder's first. frequencies: by top byte, from 0 on. data: tokens, planes and padding, with room for
    a header before it.

    start: where the tokens' first byte lies in `data`. token_bits: their length.
    """

    states: NDArray[np.uint16]
    frequencies: NDArray[np.uint16]
    data: Bytes
    start: int
    token_bits: int


def occupied(words: Words) -> NDArray[np.bool_]:
    """Which units of UNIT words are not all zero, of n words, n a multiple of LANES."""
    flags = np.empty(-(-words.size // UNIT), np.bool_)
    _kernel("occupied", 0)(words.view(np.uint64), UNIT * words.itemsize // 8, flags)
    return flags


def encode(words: Words, step: int, header_bytes: int) -> Coded:
    """Code `words` [n], n > 0 a multiple of LANES; every `step`-th unit is counted for the frequencies.

    What is returned is this thread's scratch memory, valid until its next call; `header_bytes` of it are free before
    the tokens.
    """
    size = 1 << TABLE_BITS
    token_end = header_bytes + words.size * (TABLE_BITS + 1) // 8 + 64
    end = token_end + words.nbytes - words.size
    out = scratch.array("out", max(end + 64, 4096), np.uint8)
    frequencies = scratch.array("exponent frequencies", SYMBOLS, np.uint16).reshape(1, SYMBOLS)
    states = np.full(STATES, size, np.uint16)
    first, count = _kernel("encode", words.itemsize)(
        words,
        step,
        size,
        scratch.array("extremes", 3 * LANES, words.dtype).reshape(3, LANES),
        scratch.array("counts", 2 * SYMBOLS, np.uint32),
        scratch.array("found", SYMBOLS, np.int64).reshape(1, SYMBOLS),
        frequencies,
        scratch.array("encoder", SYMBOLS, np.uint64),
        scratch.array("following", 2 * size, np.uint16),
        out,
        token_end,
        scratch.array("tokens", BLOCK, np.uint8),
        states,
    )
    out[end : end + PAD_BYTES] = 0
    data = out[: end + PAD_BYTES]
    return Coded(states - np.uint16(size), frequencies[0, :count], data, first >> 3, token_end * 8 - first)


def decode(
    frequencies: Frequencies, table_bits: int, states: NDArray[np.uint16], data: Bytes, token_bits: int, out: Words
) -> bool:
    """Fill `out` [n]. False if the stream is damaged; `out` is then undefined.

    data: as `Coded.data` from `start` on. The caller has checked that frequencies sum to the table's size, that states
    are below it, and that lengths fit `data`.
    """
    table = scratch.array("decoder", 1 << table_bits, np.uint32)
    end = -(-token_bits // 8)
    final = states.copy()
    symbols, spare = scratch.array("tokens", BLOCK, np.uint8), scratch.array("spare", SPARE_BYTES, np.uint8)
    at = _kernel("decode", out.itemsize)(
        frequencies, table, table_bits, data, 8 * end - token_bits, end, symbols, final, spare, out
    )
    return bool(at == 8 * end) and not final.any()


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a name, and the argument types for words of `width` bytes."""
    from numba import types as t

    from castore.kernels import exponent_native

    word = {0: t.uint64, 2: t.uint16, 4: t.uint32, 8: t.uint64}[width]
    words, out_words = array_type(word), array_type(word, writable=True)
    out, shorts = array_type(t.uint8, writable=True), array_type(t.uint16, writable=True)
    table32, table64 = array_type(t.uint32, writable=True), array_type(t.uint64, writable=True)
    n = t.int64
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "occupied": (exponent_native.occupied, (words, n, array_type(t.boolean, writable=True))),
        "encode": (
            exponent_native.encode,
            (
                words,
                n,
                n,
                array_type(word, 2, writable=True),
                table32,
                array_type(t.int64, 2, writable=True),
                array_type(t.uint16, 2, writable=True),
                table64,
                shorts,
                out,
                n,
                out,
                shorts,
            ),
        ),
        "decode": (
            exponent_native.decode,
            (array_type(t.uint16, 2), table32, n, array_type(t.uint8), n, n, out, shorts, out, out_words),
        ),
    }
    return found[name]


_kernel = Kernels(_signatures)
