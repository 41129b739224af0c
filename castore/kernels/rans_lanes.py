"""The steps of the coder of tokens in 64 lanes: by the processor's vectors, and lane by lane where it has none."""

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from castore.kernels.bits import U, is_told
from castore.kernels.blocks import LANES, RANS_LANES
from castore.kernels.compiling import helper
from castore.kernels.vectors import Lanes, called

_LEAST = 1 << 16  # that a state is between two tokens
_I64 = ir.IntType(64)
_ONES = ir.VectorType(ir.IntType(1), LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_NEEDED = ("avx512f", "avx512bw", "avx512vl", "avx512vbmi2")
_U32 = np.uint32


def has_wide_lanes() -> bool:
    """Whether kernels are compiled for this very processor, and it has the vector instructions."""
    if platform.machine().lower() not in ("x86_64", "amd64") or is_told():
        return False
    features = llvm.get_host_cpu_features()
    return all(features.get(one) for one in _NEEDED)


def _pointer(lanes: Lanes, argument: int, index: Any) -> Any:
    bits = lanes.signature.args[argument].dtype.bitwidth
    return lanes.builder.bitcast(lanes.pointer(argument, index, bits), ir.PointerType())


def _gathered(lanes: Lanes, argument: int, indices: Any) -> Any:
    """Words of an array at these indices."""
    every, four = ir.Constant(_ONES, [1] * LANES), ir.Constant(ir.IntType(32), 4)
    given = [lanes.constant(0), _pointer(lanes, argument, ir.Constant(_I64, 0)), indices, every, four]
    return called(lanes.builder, "llvm.x86.avx512.mask.gather.dpi.512", lanes.kind(), given)


def _moved(lanes: Lanes, name: str, shorts: Any, mask: Any) -> Any:
    """`expand`: the lowest shorts go to where the mask is set, in order; `compress`: back."""
    given = [shorts, ir.Constant(_SHORTS, [0] * LANES), mask]
    return called(lanes.builder, f"llvm.x86.avx512.mask.{name}.v{LANES}i16", _SHORTS, given)


def _count(builder: Any, mask: Any) -> Any:
    return builder.ctpop(builder.bitcast(mask, ir.IntType(16)))


def _typed_decode(
    _context: Any, states: Any, table: Any, bits: Any, contexts: Any, at: Any, stream: Any, position: Any, tokens: Any
) -> Any:
    """Decode tokens[at...], one in each lane; returns the position behind the words that it took."""
    n = types.uint64
    signature = types.uint64(states, table, n, contexts, n, stream, n, tokens)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes, b = Lanes(context, builder, sig, args, 32), builder
        q, position = lanes.splat(args[2]), args[6]
        low = b.sub(b.shl(lanes.constant(1), q), lanes.constant(1))
        before = []
        for first in range(0, RANS_LANES, LANES):
            place = b.add(args[4], ir.Constant(_I64, first))
            state = lanes.load(0, ir.Constant(_I64, first))
            entry = _gathered(lanes, 1, b.or_(lanes.load(3, place), b.and_(state, low)))
            lanes.store(b.lshr(entry, lanes.constant(24)), 7, place)
            frequency = b.and_(entry, lanes.constant(0xFFF))
            within = b.and_(b.lshr(entry, lanes.constant(12)), lanes.constant(0xFFF))
            before.append(b.add(b.mul(frequency, b.lshr(state, q)), within))
        for number, state in enumerate(before):
            short = b.icmp_unsigned("<", state, lanes.constant(_LEAST))
            words = b.load(b.bitcast(_pointer(lanes, 5, position), _SHORTS.as_pointer()), align=1)
            words = lanes.resized(_moved(lanes, "expand", words, short), 16, 32)
            state = b.select(short, b.or_(b.shl(state, lanes.constant(16)), words), state)
            lanes.store(state, 0, ir.Constant(_I64, number * LANES))
            position = b.add(position, b.shl(b.zext(_count(b, short), _I64), ir.Constant(_I64, 1)))
        return position

    return signature, generate


def _divided(lanes: Lanes, state: Any, frequency: Any) -> tuple[Any, Any]:
    """(quotient, remainder). A quotient is below 2**23, so that floats are off by one at most."""
    b = lanes.builder
    quotient = b.fptoui(b.fdiv(b.uitofp(state, _FLOATS), b.uitofp(frequency, _FLOATS)), lanes.kind())
    rest = b.sub(state, b.mul(quotient, frequency))
    one, zero = lanes.constant(1), lanes.constant(0)
    over = b.icmp_signed("<", rest, zero)
    quotient, rest = b.select(over, b.sub(quotient, one), quotient), b.select(over, b.add(rest, frequency), rest)
    under = b.icmp_signed(">=", rest, frequency)
    return b.select(under, b.add(quotient, one), quotient), b.select(under, b.sub(rest, frequency), rest)


def _typed_encode(
    _context: Any, states: Any, table: Any, bits: Any, symbols: Any, at: Any, out: Any, position: Any, met: Any
) -> Any:
    """Code symbols[at...], one in each lane, below a position of `out`; returns the one below which the next ones go.
    met[...] |= the symbols' entries."""
    n = types.uint64
    signature = types.uint64(states, table, n, symbols, n, out, n, met)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes, b = Lanes(context, builder, sig, args, 32), builder
        q, position = lanes.splat(args[2]), args[6]
        above = b.sub(lanes.constant(32), q)
        given, all_met = [], lanes.load(7, ir.Constant(_I64, 0))
        for first in range(0, RANS_LANES, LANES):
            state = lanes.load(0, ir.Constant(_I64, first))
            entry = _gathered(lanes, 1, lanes.load(3, b.add(args[4], ir.Constant(_I64, first))))
            all_met = b.or_(all_met, entry)
            frequency = b.and_(entry, lanes.constant(0xFFF))
            start = b.and_(b.lshr(entry, lanes.constant(12)), lanes.constant(0xFFF))
            long = b.icmp_unsigned(">=", b.lshr(state, above), frequency)
            given.append((long, lanes.resized(state, 32, 16)))
            state = b.select(long, b.lshr(state, lanes.constant(16)), state)
            quotient, rest = _divided(lanes, state, frequency)
            lanes.store(b.add(b.shl(quotient, q), b.add(rest, start)), 0, ir.Constant(_I64, first))
        lanes.store(all_met, 7, ir.Constant(_I64, 0))
        for long, words in reversed(given):
            count = _count(b, long)
            position = b.sub(position, b.shl(b.zext(count, _I64), ir.Constant(_I64, 1)))
            # What lies above is written already: only so many words, not a whole vector of them.
            mask = b.sub(
                b.shl(ir.Constant(ir.IntType(32), 1), b.zext(count, ir.IntType(32))), ir.Constant(ir.IntType(32), 1)
            )
            mask = b.bitcast(b.trunc(mask, ir.IntType(16)), _ONES)
            words = _moved(lanes, "compress", words, long)
            target = [words, _pointer(lanes, 5, position), ir.Constant(ir.IntType(32), 1), mask]
            called(b, f"llvm.masked.store.v{LANES}i16.p0", ir.VoidType(), target)
        return position

    return signature, generate


_decode_vectors: Any = intrinsic(_typed_decode)
_encode_vectors: Any = intrinsic(_typed_encode)


@helper
def decode_portable(
    states: Any, table: Any, bits: Any, contexts: Any, at: Any, stream: Any, position: Any, tokens: Any
) -> Any:
    """`_typed_decode` lane by lane."""
    low = (_U32(1) << _U32(bits)) - _U32(1)
    for lane in range(U(RANS_LANES)):
        state = _U32(states[lane])
        entry = _U32(table[U(_U32(contexts[U(at) + lane]) | (state & low))])
        tokens[U(at) + lane] = np.uint8(entry >> _U32(24))
        state = _U32((entry & _U32(0xFFF)) * (state >> _U32(bits)) + ((entry >> _U32(12)) & _U32(0xFFF)))
        if state < _U32(_LEAST):
            word = _U32(stream[position]) | (_U32(stream[position + U(1)]) << _U32(8))
            state = _U32((state << _U32(16)) | word)
            position += U(2)
        states[lane] = state
    return position


@helper
def encode_portable(
    states: Any, table: Any, bits: Any, symbols: Any, at: Any, out: Any, position: Any, met: Any
) -> Any:
    """`_typed_encode` lane by lane."""
    for back in range(U(RANS_LANES)):
        lane = U(RANS_LANES - 1) - back
        state = _U32(states[lane])
        entry = _U32(table[U(symbols[U(at) + lane])])
        met[U(0)] |= entry
        frequency = entry & _U32(0xFFF)
        if (state >> _U32(_U32(32) - _U32(bits))) >= frequency:
            position -= U(2)
            out[position] = np.uint8(state & _U32(0xFF))
            out[position + U(1)] = np.uint8((state >> _U32(8)) & _U32(0xFF))
            state = state >> _U32(16)
        quotient = state // frequency
        rest = state - quotient * frequency
        states[lane] = _U32((quotient << _U32(bits)) + rest + ((entry >> _U32(12)) & _U32(0xFFF)))
    return position


if has_wide_lanes():
    decode_lanes, encode_lanes = _decode_vectors, _encode_vectors
else:
    decode_lanes, encode_lanes = decode_portable, encode_portable
