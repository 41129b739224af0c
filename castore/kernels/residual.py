"""The typed surface of the decoder of residuals; nothing writes them any more.

Words are unsigned integers of 2 or 4 bytes, the bits of floats. Arrays may lie at any address.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch, tans
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.delta import Frequencies
from castore.kernels.reference import Bytes, Words

STATES, TABLE, CONTEXTS = 8, 1 << 10, 16
PAD_BYTES = 8  # behind a stream, so that a 64-bit load of its last bits stays inside


@dataclass(frozen=True, slots=True)
class Coded:
    """frequencies [CONTEXTS, tokens]: each row sums to TABLE. top: the exponent that contexts are counted down from.

    states: the decoder's first. bits: length of the stream, which has `stream_bytes(bits)` bytes.
    """

    top: int
    frequencies: Frequencies
    states: NDArray[np.uint16]
    bits: int
    stream: Bytes


def decode(coded: Coded, mantissa: int, out: Words) -> bool:
    """Turn `out` [n], which holds the base, into the words, n a multiple of 16. mantissa: bits below the exponent.

    False if the stream is damaged; `out` is then undefined. The caller has checked that rows sum to TABLE, that states
    are below it, and the length of the stream.
    """
    kind = out.dtype.type
    contexts = scratch.array("symbols", out.size, np.uint16)
    table = tans.decoder_tables(coded.frequencies, TABLE.bit_length() - 1)
    y = scratch.array("values", out.size, out.dtype)
    return bool(
        _kernel("decode", out.itemsize)(
            out, kind(coded.top), kind(mantissa), table, coded.states, coded.stream, np.uint64(coded.bits), contexts, y,
        )
    )  # fmt: skip


@cache
def alike(tokens: int) -> Frequencies:
    """The frequencies of contexts without a table: all tokens alike, the first ones taking what is left over.

    Not to be written to.
    """
    row = TABLE // tokens + (np.arange(tokens) < TABLE % tokens)
    return np.tile(row.astype(np.uint16), (CONTEXTS, 1))


def stream_bytes(bits: int) -> int:
    """The bytes of a stream of so many bits, its padding included."""
    return -(-bits // 8) + PAD_BYTES


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a name, and the argument types for words of `width` bytes."""
    from numba import types as t

    from castore.kernels import residual_native

    word = {2: t.uint16, 4: t.uint32}[width]
    words, shorts, byte = array_type(word, writable=True), array_type(t.uint16), array_type(t.uint8)
    contexts = array_type(t.uint16, writable=True)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "decode": (
            residual_native.decode,
            (words, word, word, array_type(t.uint32), shorts, byte, t.uint64, contexts, words),
        ),
    }
    return found[name]


_kernel = Kernels(_signatures)
