"""The typed surface of the ordered-delta coder.

Words are unsigned integers of 1, 2, 4 or 8 bytes, the bits of floats or integers. Arrays may lie at any address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.blocks import BLOCK, LANES, ROW, SPARE_BYTES, UNIT
from castore.kernels.coder import Coder, decoder_table, encoder_tables, encoder_types, met
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.reference import Bytes, Words

TABLE_BITS = 9
RANS_TABLE_BITS = 11  # sizes are 0.004% smaller than at 10, for 4% of the time to decode
MOST_CONTEXTS = 16
PAD_BYTES = 8  # behind the fields, so that a 64-bit load of the last ones stays inside
_RARE = 100  # contexts that hold less than one in so many values, all together, are one

Frequencies = NDArray[np.uint16]  # [contexts, tokens], each row sums to the table's size


@dataclass(frozen=True, slots=True)
class Fit:
    """How words are cut into tokens and fields, and what their contexts are.

    low: bits that every value has in its field. planes: how many whole bytes of those are stored apart.
    top, mantissa, shift, last: the context is (top - the base's exponent) >> shift, from 0 to `last`; the exponent is
    what lies above `mantissa` bits. is_float: words are mapped to the floats' order first.
    """

    low: int
    planes: int
    top: int
    mantissa: int
    shift: int
    last: int
    is_float: bool

    def array(self, word: np.dtype[Any]) -> Words:
        return np.array((self.low, self.top, self.mantissa, self.shift, self.last, self.is_float), word)

    def tokens(self, word: np.dtype[Any]) -> int:
        """How many tokens there are; the last stands for values whose bits are all in the field."""
        return 8 * word.itemsize - self.low + 1


@dataclass(frozen=True, slots=True)
class Coded:
    """states: the decoder's first, as written. counts, frequencies [contexts, tokens]: what was counted, and coded by.
    data: tokens, planes, fields and padding, with room for a header before it.

    start: where the tokens' first byte lies in `data`. token_bits, field_bits: lengths of the streams.
    """

    states: bytes
    counts: NDArray[np.int64]
    frequencies: Frequencies
    data: Bytes
    start: int
    token_bits: int
    field_bits: int


def plan(words: Words, base: Words, fit: Fit, units: int, waste: float) -> tuple[Fit, float]:
    """The fit for words [n], n >= UNIT, and the bits that a value takes with it, judged by `units` units.

    fit: what is given; its `low` is the least possible. `low` becomes the largest that wastes no more than `waste` of
    a value's bits, `top` the base's largest exponent.
    """
    array = fit.array(words.dtype)
    whole = words.size // UNIT
    taken = min(units, whole)
    contexts, tokens = fit.last + 1, fit.tokens(words.dtype)
    found = _counted(words, base, array, taken, whole, taken, fit.is_float, contexts, tokens)
    most = 8 * (words.itemsize - 1)
    low, bits, rows, columns = _kernel("judge", 0)(found, contexts, tokens, fit.low, most, waste)
    bits += 16.0 * rows * (columns + 1) / words.size
    planes = min(low // 8, words.itemsize - 1)
    behind = np.cumsum(
        found.reshape(contexts, tokens).sum(axis=1)[::-1]
    )  # how many values lie in the last context, the last two, ...
    spared = int(np.count_nonzero(behind[:-1] * _RARE < behind[-1]))
    last = fit.last - max(spared - 1, 0)  # contexts that are rare together share a row
    return Fit(low, planes, int(array[1]), fit.mantissa, fit.shift, last, fit.is_float), bits


def encode(words: Words, base: Words, fit: Fit, step: int, header_bytes: int, coder: Coder) -> Coded:
    """Code `words` [n] as differences to `base` [n], n > 0 a multiple of LANES; every `step`-th unit is counted for the
    frequencies.

    What is returned is this thread's scratch memory, valid until its next call; `header_bytes` of it are free before
    the tokens.
    """
    contexts, tokens = fit.last + 1, fit.tokens(words.dtype)
    array = fit.array(words.dtype)
    units = max(words.size - UNIT, -1) // (UNIT * step) + 1
    found = _counted(words, base, array, units, step, 1, False, contexts, tokens)
    frequencies, tables = encoder_tables(coder, found, contexts, tokens, ROW)
    y, symbols, masks = _block()
    token_end = header_bytes + coder.most_bytes(words.size)
    field_start = token_end + fit.planes * words.size
    out = scratch.array("out", field_start + words.nbytes + 64 + LANES, np.uint8)
    states = coder.resting()
    first, field_bits = _kernel("encode", words.itemsize)(
        words, base, array, fit.planes, *tables, out, token_end, field_start, y, symbols, masks, states, met()
    )
    end = field_start + -(-field_bits // 8)
    out[end : end + PAD_BYTES] = 0
    data = out[: end + PAD_BYTES]
    rows = found.reshape(contexts, tokens), frequencies.reshape(contexts, tokens)
    return Coded(coder.written(states), *rows, data, first >> 3, token_end * 8 - first, field_bits)


def decode(
    out: Words,
    fit: Fit,
    frequencies: Frequencies,
    coder: Coder,
    states: NDArray[np.uint32],
    data: Bytes,
    token_bits: int,
    field_bits: int,
) -> bool:
    """Turn `out` [n], which holds the base, into the words. False if the streams are damaged; `out` is then undefined.

    data: as `Coded.data` from `start` on. The caller has checked that every row of frequencies sums to the table's
    size, that states are the coder's, that it can have n words, and that lengths fit `data`.
    """
    table = decoder_table(coder, frequencies)
    tokens_end = -(-token_bits // 8)
    field_end = 8 * (tokens_end + fit.planes * out.size) + field_bits
    y, symbols, masks = _block()
    tokens = scratch.array("tokens", BLOCK, np.uint8)
    spare = scratch.array("spare", SPARE_BYTES, np.uint8)
    final = states.copy()
    token_at, field_at = _kernel("decode", out.itemsize)(
        out,
        fit.array(out.dtype),
        fit.planes,
        coder.is_rans,
        table,
        coder.table_bits,
        data,
        8 * tokens_end - token_bits,
        tokens_end,
        field_end,
        symbols,
        tokens,
        masks,
        y,
        final,
        spare,
    )
    at_end = bool(token_at == 8 * tokens_end and field_at == field_end - field_bits)
    return at_end and bool((final == coder.rest).all())


def changed(words: Words, base: Words) -> NDArray[np.bool_]:
    """Which units of UNIT words differ, of n words, n a multiple of LANES."""
    flags = np.empty(-(-words.size // UNIT), np.bool_)
    _kernel("changed", 0)(words.view(np.uint64), base.view(np.uint64), UNIT * words.itemsize // 8, flags)
    return flags


def _counted(
    words: Words, base: Words, fit: Words, units: int, step: int, parts: int, find: bool, contexts: int, tokens: int
) -> NDArray[np.int64]:
    """How often each token occurs in each context, [contexts * tokens], in `units` units; see `delta_native.count`."""
    counts = scratch.array("counts", 2 * contexts * ROW, np.uint32)
    symbols = scratch.array("symbols", BLOCK, np.uint16)
    found = scratch.array("found", contexts * tokens, np.int64)
    _kernel("count", words.itemsize)(words, base, units, step, parts, find, fit, tokens, symbols, counts, found)
    return found


def _block() -> tuple[NDArray[np.uint64], NDArray[np.uint16], NDArray[np.uint64]]:
    """Scratch of one block: values, symbols or contexts, masks. Words of any size share it."""
    return (
        scratch.array("values", BLOCK, np.uint64),
        scratch.array("symbols", BLOCK, np.uint16),
        scratch.array("masks", BLOCK, np.uint64),
    )


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a name, and the argument types for words of `width` bytes."""
    from numba import types as t

    from castore.kernels import delta_native

    word = {0: t.uint64, 1: t.uint8, 2: t.uint16, 4: t.uint32, 8: t.uint64}[width]
    n, words, out_words = t.int64, array_type(word), array_type(word, writable=True)
    bytes_in, bytes_out = array_type(t.uint8), array_type(t.uint8, writable=True)
    shorts, groups = array_type(t.uint16, writable=True), array_type(t.uint64, writable=True)
    wide = counts = array_type(t.uint32, writable=True)
    found = array_type(t.int64, writable=True)
    kernels: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "changed": (delta_native.changed, (words, words, n, array_type(t.boolean, writable=True))),
        "count": (delta_native.count, (words, words, n, n, n, t.boolean, out_words, n, shorts, counts, found)),
        "judge": (delta_native.judge, (array_type(t.int64), n, n, n, n, t.float64)),
        "encode": (
            delta_native.encode,
            (
                *(words, words, words, n, *encoder_types()),
                *(bytes_out, n, n, groups, shorts, groups, wide, wide),
            ),
        ),
        "decode": (
            delta_native.decode,
            (
                *(out_words, words, n, t.boolean, array_type(t.uint32), n, bytes_in, n, n, n),
                *(shorts, bytes_out, groups, groups, wide, bytes_out),
            ),
        ),
    }
    return kernels[name]


_kernel = Kernels(_signatures)
