"""The exponent coder in Numba: the top byte of words shifted past their sign to a token stream, the others to planes.

What each step means is in `exponent_reference`; the format is in `codecs/exponents`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from castore.kernels import rans_native as rans
from castore.kernels import tans_native as tans
from castore.kernels.bits import U, clear_bytes, copy_bytes
from castore.kernels.blocks import BLOCK, LANES, UNIT
from castore.kernels.compiling import kernel
from castore.kernels.delta_native import tally
from castore.kernels.vectors import Lanes

SYMBOLS = 256

_build: Any = cgutils


def _rotated(lanes: Lanes, word: Any, shift: Any) -> Any:
    """Rotated left by one bit; or, for a shift of 0, as they are, if no word has its top bit."""
    b = lanes.builder
    return b.or_(b.shl(word, lanes.splat(shift)), b.lshr(word, lanes.constant(lanes.bits - 1)))


def _typed_range(_context: Any, words: Any, steps: Any, extremes: Any, shift: Any) -> Any:
    """Extremes of LANES * steps rotated words, into [3 * LANES]: least of those whose top byte is not 0, most; and
    whether one's is. In variables of the intrinsic's own: what lies in arrays is stored and loaded at every step."""
    signature = types.void(words, types.intp, extremes, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b, build = builder, _build
        first = (-1, 0, 0)
        least, most, any_zero = (build.alloca_once_value(b, lanes.constant(one)) for one in first)
        for variable, one in zip((least, most, any_zero), first, strict=True):
            b.store(lanes.constant(one), variable)
        with build.for_range(b, args[1]) as loop:
            word = _rotated(lanes, lanes.load(0, b.mul(loop.index, ir.Constant(loop.index.type, LANES))), args[3])
            small = b.icmp_unsigned("<", word, lanes.constant(1 << (lanes.bits - 8)))
            ones = b.sext(small, lanes.kind())
            b.store(lanes.least(b.load(least), b.or_(word, ones)), least)
            old = b.load(most)
            b.store(b.select(b.icmp_unsigned(">", word, old), word, old), most)
            b.store(b.or_(b.load(any_zero), ones), any_zero)
        for k, variable in enumerate((least, most, any_zero)):
            lanes.store(b.load(variable), 2, ir.Constant(ir.IntType(64), k * LANES))
        return context.get_dummy_value()

    return signature, generate


def _typed_split(
    _context: Any, words: Any, at: Any, shift: Any, i: Any, symbols: Any, planes: Any, plane: Any, stride: Any
) -> Any:
    """symbols[i...] <- top bytes; planes[plane + k * stride ...] <- byte k of the others."""
    signature = types.void(words, *(types.intp,) * 3, symbols, planes, *(types.intp,) * 2)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b, word = builder, _rotated(lanes, lanes.load(0, args[1]), args[2])
        lanes.store(b.lshr(word, lanes.constant(lanes.bits - 8)), 4, args[3])
        at = args[6]
        for k in range(lanes.bits // 8 - 1):
            lanes.store(b.lshr(word, lanes.constant(8 * k)), 5, at)
            at = b.add(at, args[7])
        return context.get_dummy_value()

    return signature, generate


def _typed_join(
    _context: Any, symbols: Any, i: Any, planes: Any, plane: Any, stride: Any, out: Any, at: Any, shift: Any
) -> Any:
    signature = types.void(symbols, types.intp, planes, types.intp, types.intp, out, types.intp, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[5].dtype.bitwidth)
        b = builder
        word = b.shl(lanes.load(0, args[1]), lanes.constant(lanes.bits - 8))
        at = args[3]
        for k in range(lanes.bits // 8 - 1):
            word = b.or_(word, b.shl(lanes.load(2, at), lanes.constant(8 * k)))
            at = b.add(at, args[4])
        shift = lanes.splat(args[7])
        back = b.or_(b.lshr(word, shift), b.shl(b.and_(word, shift), lanes.constant(lanes.bits - 1)))
        lanes.store(back, 5, args[6])
        return context.get_dummy_value()

    return signature, generate


_range: Any = intrinsic(_typed_range)
_split: Any = intrinsic(_typed_split)
_join: Any = intrinsic(_typed_join)


@kernel
def occupied(words: Any, unit: Any, flags: Any) -> Any:
    """Which units of `unit` 8-byte words have a bit that is set; the last may be shorter. Returns all such bits."""
    every = U(0)
    for k in range(flags.size):
        found = U(0)
        for i in range(k * unit, min((k + 1) * unit, words.size)):
            found |= words[U(i)]
        flags[k] = found != U(0)
        every |= found
    return every


@kernel
def survey(
    words: Any, shift: Any, units: Any, step: Any, symbols: Any, planes: Any, extremes: Any, counts: Any, found: Any
) -> Any:
    """Count the top bytes of units into found [SYMBOLS]; unit k is the one with number k * step. Every top byte that
    may occur gets 1 at least. Returns the last of them.

    extremes [3 * LANES], counts [2 * SYMBOLS], symbols, planes [word bytes * UNIT]: scratch.
    """
    kind = words.dtype.type
    _range(words, words.size // LANES, extremes, shift)
    for i in range(U(2 * SYMBOLS)):
        counts[i] = np.uint32(0)
    for k in range(units):
        for i in range(0, UNIT, LANES):
            _split(words, k * step * UNIT + i, shift, i, symbols, planes, i, UNIT)
        tally(symbols, counts, U(SYMBOLS))
    top = U(8 * words.itemsize - 8)
    first, last, zero = U(SYMBOLS), U(0), False
    for i in range(U(0), U(LANES)):
        first = min(first, U(extremes[i]) >> top)
        last = max(last, U(extremes[i + U(LANES)]) >> top)
        zero = zero or extremes[i + U(2 * LANES)] != kind(0)
    for symbol in range(U(SYMBOLS)):
        count = np.int64(counts[symbol]) + np.int64(counts[symbol + U(SYMBOLS)])
        present = first <= symbol <= last or (symbol == U(0) and zero)
        found[symbol] = max(count, np.int64(1)) if present else np.int64(0)
    return last


@kernel
def encode(
    words: Any, shift: Any, rans_bits: Any, table: Any, following: Any, rans_table: Any, out: Any, token_end: Any,
    symbols: Any, states: Any, met: Any,
) -> Any:  # fmt: skip
    """Code `words`: tokens below byte `token_end` of `out`, planes from there on. Returns the tokens' first bit.

    shift: 0 if no word has its top bit, and words are not rotated for that; else 1. rans_bits: of the table of rANS, 0
    for tANS. table, following: of `tans_native.encoder_tables`; rans_table: of
    `rans_native.encoder_table`. symbols, met: scratch.
    """
    at, held, count = U(token_end), U(0), U(0)
    start = words.size
    while start > 0:
        taken = (start - 1) % BLOCK + 1
        start -= taken
        for i in range(0, taken, LANES):
            _split(words, start + i, shift, i, symbols, out, token_end + start + i, words.size)
        if rans_bits:
            at, _ = rans.encode(symbols, taken, rans_table, rans_bits, out, at, states, met)
        else:
            at, held, count, _ = tans.encode(symbols, taken, table, following, out, at, held, count, states)
    if not rans_bits:
        out[at - U(1)] = np.uint8((held << (U(8) - count)) & U(0xFF))
    return at * U(8) - count


@kernel
def decode(
    table: Any,
    rans_bits: Any,
    stream: Any,
    token_start: Any,
    plane_start: Any,
    symbols: Any,
    no_contexts: Any,
    states: Any,
    spare: Any,
    out: Any,
    shift: Any,
) -> Any:
    """The inverse; returns the bit at which the tokens ended. The planes lie in `stream`: the caller has checked.

    no_contexts: zeros, as many as words in a block.
    """
    at = U(token_start)
    for start in range(0, out.size, BLOCK):
        size = min(BLOCK, out.size - start)
        if at > U(stream.size * 8):
            break
        source, moved = stream, U(0)
        first, reach = at >> U(3), rans.reach(size) if rans_bits else tans.reach(size)
        if first + reach > U(stream.size):
            left = U(stream.size) - first
            copy_bytes(spare, U(0), stream, first, left)
            clear_bytes(spare, left, reach - left)
            source, moved = spare, first << U(3)
        if rans_bits:
            end = rans.decode(no_contexts, table, rans_bits, source, first - (moved >> U(3)), states, symbols, size)
            at = (end << U(3)) + moved
        else:
            at = tans.decode_plain(table, source, at - moved, states, symbols, size) + moved
        for i in range(0, size, LANES):
            _join(symbols, i, stream, plane_start + start + i, out.size, out, start + i, shift)
    return at
