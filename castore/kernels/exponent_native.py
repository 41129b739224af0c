"""The exponent coder in Numba: the top byte of words rotated left by one bit to a token stream, the others to planes.

What each step means is in `exponent_reference`; the format is in `codecs/exponents`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from castore.kernels import tans_native as tans
from castore.kernels.bits import U
from castore.kernels.blocks import BLOCK, LANES, UNIT
from castore.kernels.vectors import Lanes

SYMBOLS = 256


def _rotated(lanes: Lanes, word: Any) -> Any:
    b = lanes.builder
    return b.or_(b.shl(word, lanes.constant(1)), b.lshr(word, lanes.constant(lanes.bits - 1)))


def _typed_range(_context: Any, words: Any, i: Any, least: Any, most: Any, any_zero: Any) -> Any:
    """Running extremes of the rotated words, [LANES] each: least of those whose top byte is not 0, most; and whether
    one's is."""
    signature = types.void(words, types.intp, least, most, any_zero)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b, start = builder, ir.Constant(ir.IntType(64), 0)
        word = _rotated(lanes, lanes.load(0, args[1]))
        small = b.icmp_unsigned("<", word, lanes.constant(1 << (lanes.bits - 8)))
        ones = b.sext(small, lanes.kind())
        lanes.store(lanes.least(lanes.load(2, start), b.or_(word, ones)), 2, start)
        old = lanes.load(3, start)
        lanes.store(b.select(b.icmp_unsigned(">", word, old), word, old), 3, start)
        lanes.store(b.or_(lanes.load(4, start), ones), 4, start)
        return context.get_dummy_value()

    return signature, generate


def _typed_split(_context: Any, words: Any, at: Any, i: Any, symbols: Any, planes: Any, plane: Any, stride: Any) -> Any:
    """symbols[i...] <- top bytes; planes[plane + k * stride ...] <- byte k of the others."""
    signature = types.void(words, types.intp, types.intp, symbols, planes, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b, word = builder, _rotated(lanes, lanes.load(0, args[1]))
        lanes.store(b.lshr(word, lanes.constant(lanes.bits - 8)), 3, args[2])
        at = args[5]
        for k in range(lanes.bits // 8 - 1):
            lanes.store(b.lshr(word, lanes.constant(8 * k)), 4, at)
            at = b.add(at, args[6])
        return context.get_dummy_value()

    return signature, generate


def _typed_join(_context: Any, symbols: Any, i: Any, planes: Any, plane: Any, stride: Any, out: Any, at: Any) -> Any:
    signature = types.void(symbols, types.intp, planes, types.intp, types.intp, out, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[5].dtype.bitwidth)
        b = builder
        word = b.shl(lanes.load(0, args[1]), lanes.constant(lanes.bits - 8))
        at = args[3]
        for k in range(lanes.bits // 8 - 1):
            word = b.or_(word, b.shl(lanes.load(2, at), lanes.constant(8 * k)))
            at = b.add(at, args[4])
        back = b.or_(b.lshr(word, lanes.constant(1)), b.shl(word, lanes.constant(lanes.bits - 1)))
        lanes.store(back, 5, args[6])
        return context.get_dummy_value()

    return signature, generate


_range: Any = intrinsic(_typed_range)
_split: Any = intrinsic(_typed_split)
_join: Any = intrinsic(_typed_join)


@njit(nogil=True, cache=True)
def occupied(words: Any, unit: Any, flags: Any) -> None:
    """Which units of `unit` 8-byte words have a bit that is set; the last may be shorter."""
    for k in range(flags.size):
        found = U(0)
        for i in range(k * unit, min((k + 1) * unit, words.size)):
            found |= words[U(i)]
        flags[k] = found != U(0)


@njit(nogil=True)
def _survey(words: Any, step: Any, symbols: Any, planes: Any, extremes: Any, counts: Any, found: Any) -> Any:
    """Count the top bytes of every `step`-th unit into found [1, SYMBOLS]; every top byte that may occur gets 1 at
    least. Returns the last of them.

    extremes [3, LANES], counts [2 * SYMBOLS], symbols, planes: scratch.
    """
    kind = words.dtype.type
    least, most, any_zero = extremes[0], extremes[1], extremes[2]
    least[:] = ~kind(0)
    most[:] = kind(0)
    any_zero[:] = kind(0)
    for i in range(0, words.size, LANES):
        _range(words, i, least, most, any_zero)
    counts[:] = 0
    for start in range(0, words.size - UNIT + 1, UNIT * step):
        for i in range(0, UNIT, LANES):
            _split(words, start + i, i, symbols, planes, i, UNIT)
        for i in range(0, UNIT, 2):
            counts[U(symbols[U(i)])] += np.uint32(1)
            counts[U(symbols[U(i + 1)]) + U(SYMBOLS)] += np.uint32(1)
    top = kind(8 * words.itemsize - 8)
    first, last, zero = least.min() >> top, most.max() >> top, any_zero.max() > 0
    for symbol in range(SYMBOLS):
        count = np.int64(counts[symbol]) + np.int64(counts[SYMBOLS + symbol])
        present = first <= symbol <= last or (symbol == 0 and zero)
        found[0, symbol] = max(count, 1) if present else 0
    return max(np.int64(last), 0)


@njit(nogil=True, cache=True)
def encode(
    words: Any,
    step: Any,
    size: Any,
    extremes: Any,
    counts: Any,
    found: Any,
    frequencies: Any,
    table: Any,
    following: Any,
    out: Any,
    token_end: Any,
    symbols: Any,
    states: Any,
) -> Any:
    """Code `words`: tokens below byte `token_end` of `out`, planes from there on. Returns (the tokens' first bit, how
    many of the frequencies [1, SYMBOLS] count).

    size: states of the table. step: every which unit is counted. extremes, counts, found, table, following, symbols:
    scratch.
    """
    last = _survey(words, step, symbols, out[:4096], extremes, counts, found)
    tans.normalise(found[:, : last + 1], size, frequencies)
    tans.encoder_tables(frequencies[:, : last + 1], size, SYMBOLS, following, table)
    at, held, count = U(token_end), U(0), U(0)
    blocks = (words.size + BLOCK - 1) // BLOCK
    for done in range(blocks):
        start = (blocks - 1 - done) * BLOCK
        taken = min(BLOCK, words.size - start)
        for i in range(0, taken, LANES):
            _split(words, start + i, i, symbols, out, token_end + start + i, words.size)
        at, held, count, _ = tans.encode(symbols[:taken], table, following, out, at, held, count, states)
    out[at - U(1)] = np.uint8((held << (U(8) - count)) & U(0xFF))
    return at * U(8) - count, last + 1


@njit(nogil=True, cache=True)
def decode(
    frequencies: Any,
    table: Any,
    table_bits: Any,
    stream: Any,
    token_start: Any,
    plane_start: Any,
    symbols: Any,
    states: Any,
    spare: Any,
    out: Any,
) -> Any:
    """The inverse; returns the bit at which the tokens ended. The planes lie in `stream`: the caller has checked."""
    tans.decoder_tables(frequencies, 1 << table_bits, table)
    at = U(token_start)
    for start in range(0, out.size, BLOCK):
        size = min(BLOCK, out.size - start)
        if at > U(stream.size * 8):
            break
        source, moved = tans.with_room(stream, at, size, spare)
        at = tans.decode_plain(table, source, at - moved, states, symbols[:size]) + moved
        for i in range(0, size, LANES):
            _join(symbols, i, stream, plane_start + start + i, out.size, out, start + i)
    return at
