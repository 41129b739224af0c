"""The typed surface of the exponent coder, for words of 2, 4 or 8 bytes, the bits of floats, at any address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.blocks import BLOCK, LANES, MOST_TABLE_BITS, UNIT
from castore.kernels.coder import Coder, decoder_table, encoder_tables, encoder_types, met
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.delta import Frequencies
from castore.kernels.reference import Bytes, Words

SYMBOLS = 256
TABLE_BITS = MOST_TABLE_BITS
PAD_BYTES = 8  # behind the planes
SPARE_BYTES = 2 * BLOCK + 64

_NO_CONTEXTS = np.zeros(BLOCK, np.uint16)


@dataclass(frozen=True, slots=True)
class Coded:
    """states: the decoder's first, as written. frequencies: by top byte, from 0 on. data: tokens, planes and padding,
    with room for a header before it.

    start: where the tokens' first byte lies in `data`. token_bits: their length.
    """

    states: bytes
    frequencies: NDArray[np.uint16]
    data: Bytes
    start: int
    token_bits: int


def occupied(words: Words) -> tuple[NDArray[np.bool_], bool]:
    """(which units of UNIT words are not all zero, whether a word has its top bit); n words, a multiple of LANES."""
    flags = np.empty(-(-words.size // UNIT), np.bool_)
    bits = _kernel("occupied", 0)(words.view(np.uint64), UNIT * words.itemsize // 8, flags)
    return flags, bool(np.array([bits], np.uint64).view(words.dtype).max() >> (8 * words.itemsize - 1))


def encode(words: Words, shift: int, step: int, header_bytes: int, coder: Coder) -> Coded:
    """Code `words` [n], n > 0 a multiple of LANES; every `step`-th unit is counted for the frequencies.

    shift: 1 to rotate words left by one bit first; 0 to take them as they are, where none has its top bit.

    What is returned is this thread's scratch memory, valid until its next call; `header_bytes` of it are free before
    the tokens.
    """
    token_end = header_bytes + coder.most_bytes(words.size)
    end = token_end + words.nbytes - words.size
    out = scratch.array("out", max(end + 64, 4096), np.uint8)
    symbols = scratch.array("symbols", BLOCK, np.uint16)
    found = _counted(words, shift, step, symbols, out)
    frequencies, tables = encoder_tables(coder, found, 1, found.size, SYMBOLS)
    states = coder.resting()
    first = _kernel("encode", words.itemsize)(words, shift, *tables, out, token_end, symbols, states, met())
    out[end : end + PAD_BYTES] = 0
    data = out[: end + PAD_BYTES]
    return Coded(coder.written(states), frequencies, data, first >> 3, token_end * 8 - first)


def _counted(words: Words, shift: int, step: int, symbols: NDArray[np.uint16], planes: Bytes) -> NDArray[np.int64]:
    """How often each top byte occurs, from 0 to the last that does; 1 at least for every one that may."""
    extremes = scratch.array("extremes", 3 * LANES, words.dtype)
    counts = scratch.array("counts", 2 * SYMBOLS, np.uint32)
    units = max(words.size - UNIT, -1) // (UNIT * step) + 1
    found = scratch.array("found", SYMBOLS, np.int64)
    last = _kernel("survey", words.itemsize)(words, shift, units, step, symbols, planes, extremes, counts, found)
    return found[: last + 1]


def decode(
    frequencies: Frequencies,
    shift: int,
    coder: Coder,
    states: NDArray[np.uint32],
    data: Bytes,
    token_bits: int,
    out: Words,
) -> bool:
    """Fill `out` [n]. False if the stream is damaged; `out` is then undefined.

    data: as `Coded.data` from `start` on. The caller has checked that frequencies sum to the table's size, that states
    are the coder's, that it can have n words, and that lengths fit `data`.
    """
    table = decoder_table(coder, frequencies)
    end = -(-token_bits // 8)
    final = states.copy()
    symbols, spare = scratch.array("tokens", BLOCK, np.uint8), scratch.array("spare", SPARE_BYTES, np.uint8)
    bits = coder.table_bits if coder.is_rans else 0
    at = _kernel("decode", out.itemsize)(
        table, bits, data, 8 * end - token_bits, end, symbols, _NO_CONTEXTS, final, spare, out, shift
    )
    return bool(at == 8 * end) and bool((final == coder.rest).all())


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a name, and the argument types for words of `width` bytes."""
    from numba import types as t

    from castore.kernels import exponent_native

    word = {0: t.uint64, 2: t.uint16, 4: t.uint32, 8: t.uint64}[width]
    n, words, out_words = t.int64, array_type(word), array_type(word, writable=True)
    bytes_out, shorts = array_type(t.uint8, writable=True), array_type(t.uint16, writable=True)
    counts, found_type = array_type(t.uint32, writable=True), array_type(t.int64, writable=True)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "occupied": (exponent_native.occupied, (words, n, array_type(t.boolean, writable=True))),
        "survey": (exponent_native.survey, (words, n, n, n, shorts, bytes_out, out_words, counts, found_type)),
        "encode": (exponent_native.encode, (words, n, *encoder_types(), bytes_out, n, shorts, counts, counts)),
        "decode": (
            exponent_native.decode,
            (
                *(array_type(t.uint32), n, array_type(t.uint8), n, n, bytes_out, array_type(t.uint16)),
                *(counts, bytes_out, out_words, n),
            ),
        ),
    }
    return found[name]


_kernel = Kernels(_signatures)
