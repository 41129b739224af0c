"""The typed surface of the ordered-delta coder.

Words are unsigned integers of 1, 2, 4 or 8 bytes, the bits of floats or integers. Arrays may lie at any address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.blocks import BLOCK, LANES, ROW, SPARE_BYTES, STATES, UNIT
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.reference import Bytes, Words

TABLE_BITS = 9
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
    """states: the decoder's first. counts, frequencies [contexts, tokens]: what was counted, and coded by.
    data: tokens, planes, fields and padding, with room for a header before it.

    start: where the tokens' first byte lies in `data`. token_bits, field_bits: lengths of the streams.
    """

    states: NDArray[np.uint16]
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
    symbols = _block(words.dtype)[1]
    found = scratch.array("found", (fit.last + 1) * fit.tokens(words.dtype), np.int64).reshape(fit.last + 1, -1)
    counts = scratch.array("counts", 2 * MOST_CONTEXTS * ROW, np.uint32)
    bits = _kernel("plan", words.itemsize)(words, base, units, array, waste, symbols, counts, found)
    low = int(array[0])
    planes = min(low // 8, words.itemsize - 1)
    behind = np.cumsum(found.sum(axis=1)[::-1])  # how many values lie in the last context, the last two, ...
    spared = int(np.count_nonzero(behind[:-1] * _RARE < behind[-1]))
    last = fit.last - max(spared - 1, 0)  # contexts that are rare together share a row
    return Fit(low, planes, int(array[1]), fit.mantissa, fit.shift, last, fit.is_float), bits


def encode(words: Words, base: Words, fit: Fit, step: int, header_bytes: int) -> Coded:
    """Code `words` [n] as differences to `base` [n], n > 0 a multiple of LANES; every `step`-th unit is counted for the
    frequencies.

    What is returned is this thread's scratch memory, valid until its next call; `header_bytes` of it are free before
    the tokens.
    """
    size, contexts, tokens = 1 << TABLE_BITS, fit.last + 1, fit.tokens(words.dtype)
    following = scratch.array("following", (MOST_CONTEXTS + 1) * size, np.uint16)
    table = scratch.array("encoder", MOST_CONTEXTS * ROW, np.uint64)
    counts = scratch.array("counts", 2 * MOST_CONTEXTS * ROW, np.uint32)
    found = scratch.array("found", contexts * tokens, np.int64).reshape(contexts, tokens)
    frequencies = scratch.array("frequencies", contexts * tokens, np.uint16).reshape(contexts, tokens)
    y, symbols, masks = _block(words.dtype)
    token_end = header_bytes + words.size * (TABLE_BITS + 1) // 8 + 64
    field_start = token_end + fit.planes * words.size
    out = scratch.array("out", field_start + words.nbytes + 64 + LANES, np.uint8)
    states = np.full(STATES, size, np.uint16)
    first, field_bits = _kernel("encode", words.itemsize)(
        words,
        base,
        fit.array(words.dtype),
        fit.planes,
        size,
        step,
        counts,
        found,
        frequencies,
        table,
        following,
        out,
        token_end,
        field_start,
        y,
        symbols,
        masks,
        states,
    )
    end = field_start + -(-field_bits // 8)
    out[end : end + PAD_BYTES] = 0
    data = out[: end + PAD_BYTES]
    return Coded(states - np.uint16(size), found, frequencies, data, first >> 3, token_end * 8 - first, field_bits)


def decode(
    out: Words,
    fit: Fit,
    frequencies: Frequencies,
    table_bits: int,
    states: NDArray[np.uint16],
    data: Bytes,
    token_bits: int,
    field_bits: int,
) -> bool:
    """Turn `out` [n], which holds the base, into the words. False if the streams are damaged; `out` is then undefined.

    data: as `Coded.data` from `start` on. The caller has checked that every row of frequencies sums to the table's
    size, that states are below it, and that lengths fit `data`.
    """
    table = scratch.array("decoder", MOST_CONTEXTS << table_bits, np.uint32)
    tokens_end = -(-token_bits // 8)
    field_end = 8 * (tokens_end + fit.planes * out.size) + field_bits
    y, symbols, masks = _block(out.dtype)
    tokens = scratch.array("tokens", BLOCK, np.uint8)
    spare = scratch.array("spare", SPARE_BYTES, np.uint8)
    final = states.copy()
    token_at, field_at = _kernel("decode", out.itemsize)(
        out,
        fit.array(out.dtype),
        fit.planes,
        frequencies,
        table,
        table_bits,
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
    return at_end and not final.any()


def changed(words: Words, base: Words) -> NDArray[np.bool_]:
    """Which units of UNIT words differ, of n words, n a multiple of LANES."""
    flags = np.empty(-(-words.size // UNIT), np.bool_)
    _kernel("changed", 0)(words.view(np.uint64), base.view(np.uint64), UNIT * words.itemsize // 8, flags)
    return flags


def _block(word: np.dtype[Any]) -> tuple[Words, NDArray[np.uint16], Words]:
    """Scratch of one block: values, symbols or contexts, masks."""
    return (
        scratch.array("values", BLOCK, word),
        scratch.array("symbols", BLOCK, np.uint16),
        scratch.array("masks", BLOCK, word),
    )


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    """The compiled function of a name, and the argument types for words of `width` bytes."""
    from numba import types as t

    from castore.kernels import delta_native

    word = {0: t.uint64, 1: t.uint8, 2: t.uint16, 4: t.uint32, 8: t.uint64}[width]
    words, scratch_words = array_type(word), array_type(word, writable=True)
    scratch_shorts = array_type(t.uint16, writable=True)
    out = array_type(t.uint8, writable=True)
    table32, table64 = array_type(t.uint32, writable=True), array_type(t.uint64, writable=True)
    n, found = t.int64, array_type(t.int64, 2, writable=True)
    kernels: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "changed": (delta_native.changed, (words, words, n, array_type(t.boolean, writable=True))),
        "plan": (
            delta_native.plan,
            (words, words, n, scratch_words, t.float64, scratch_shorts, table32, found),
        ),
        "encode": (
            delta_native.encode,
            (
                words,
                words,
                words,
                n,
                n,
                n,
                table32,
                found,
                array_type(t.uint16, 2, writable=True),
                table64,
                scratch_shorts,
                out,
                n,
                n,
                scratch_words,
                scratch_shorts,
                scratch_words,
                scratch_shorts,
            ),
        ),
        "decode": (
            delta_native.decode,
            (
                scratch_words,
                words,
                n,
                array_type(t.uint16, 2),
                table32,
                n,
                array_type(t.uint8),
                n,
                n,
                n,
                scratch_shorts,
                out,
                scratch_words,
                scratch_words,
                scratch_shorts,
                out,
            ),
        ),
    }
    return kernels[name]


_kernel = Kernels(_signatures)
