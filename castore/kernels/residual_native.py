"""The residual coder in Numba; what each step means is in `residual_reference`, and the format in `codecs/residual`.

Tokens and the raw bits below them share one bit stream, which costs the decoder one unaligned load, two masks and a
table look-up a value. Eight interleaved states give it that many independent chains. Steps over whole arrays are
written as explicit vectors, as in `native`. All indices are unsigned 64-bit: signed ones would be checked for
wrap-around at every access.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LANES = 16
STATES = 8
TABLE_BITS = 10
TABLE = 1 << TABLE_BITS
CONTEXTS = 16
SYMBOLS = 64  # room for the tokens of one context
GUARD_BITS = STATES * (TABLE_BITS + 32)  # what one round of the decoder takes at most

_U = np.uint64


def _kind(bits: int) -> Any:
    return ir.VectorType(ir.IntType(bits), LANES)


def _constant(bits: int, value: int) -> Any:
    return ir.Constant(_kind(bits), [value] * LANES)


class _Lanes:
    """Vectors of LANES words, loaded from and stored to the arrays of an intrinsic's arguments."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, bits: int) -> None:
        self.context, self.builder, self.signature, self.arguments, self.bits = (
            context,
            builder,
            signature,
            arguments,
            bits,
        )

    def _at(self, argument: int, index: Any, bits: int) -> Any:
        array = self.context.make_array(self.signature.args[argument])(
            self.context, self.builder, self.arguments[argument]
        )
        return self.builder.bitcast(self.builder.gep(array.data, [index]), _kind(bits).as_pointer())

    def load(self, argument: int, index: Any) -> Any:
        return self.builder.load(self._at(argument, index, self.bits), align=1)

    def store(self, value: Any, argument: int, index: Any, bits: int | None = None) -> None:
        width = self.bits if bits is None else bits
        if width < self.bits:
            value = self.builder.trunc(value, _kind(width))
        self.builder.store(value, self._at(argument, index, width), align=1)

    def splat(self, value: Any) -> Any:
        first = self.builder.insert_element(
            ir.Constant(_kind(self.bits), ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, first, zeros)

    def ordered(self, word: Any) -> Any:
        """Sign and magnitude to two's complement, or back: integers in the order of the floats."""
        sign = self.builder.ashr(word, _constant(self.bits, self.bits - 1))
        return self.builder.xor(word, self.builder.lshr(sign, _constant(self.bits, 1)))

    def context_of(self, base: Any, top: Any, mantissa: Any) -> Any:
        """How far the base's exponent lies below `top`, from 0 to CONTEXTS - 1."""
        builder, bits = self.builder, self.bits
        magnitude = builder.and_(base, _constant(bits, (1 << (bits - 1)) - 1))
        below = builder.sub(top, builder.lshr(magnitude, mantissa))
        below = builder.select(builder.icmp_signed("<", below, _constant(bits, 0)), _constant(bits, 0), below)
        last = _constant(bits, CONTEXTS - 1)
        return builder.select(builder.icmp_unsigned("<", below, last), below, last)

    def bit_length_less_one(self, word: Any) -> Any:
        """floor(log2(word)); for 0, which stands for 2**bits, the number of bits."""
        name = f"llvm.ctlz.v{LANES}i{self.bits}"
        module = self.builder.module
        kind = ir.FunctionType(_kind(self.bits), [_kind(self.bits), ir.IntType(1)])
        function = module.globals.get(name) or ir.Function(module, kind, name)
        zeros = self.builder.call(function, [word, ir.Constant(ir.IntType(1), 0)])
        length = self.builder.sub(_constant(self.bits, self.bits - 1), zeros)
        is_zero = self.builder.icmp_unsigned("==", word, _constant(self.bits, 0))
        return self.builder.select(is_zero, _constant(self.bits, self.bits), length)


def _typed_prepare_lanes(
    _context: Any, words: Any, base: Any, i: Any, top: Any, mantissa: Any, y: Any, symbols: Any, union: Any
) -> Any:
    signature = types.void(words, base, types.intp, words.dtype, words.dtype, y, symbols, union)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = sig.args[0].dtype.bitwidth
        lanes = _Lanes(context, builder, sig, args, bits)
        old = lanes.load(1, args[2])
        difference = builder.sub(lanes.ordered(lanes.load(0, args[2])), lanes.ordered(old))
        zigzag = builder.xor(
            builder.shl(difference, _constant(bits, 1)), builder.ashr(difference, _constant(bits, bits - 1))
        )
        value = builder.add(zigzag, _constant(bits, 1))
        lanes.store(value, 5, args[2])
        token = lanes.bit_length_less_one(value)
        place = lanes.context_of(old, lanes.splat(args[3]), lanes.splat(args[4]))
        lanes.store(builder.or_(builder.shl(place, _constant(bits, 6)), token), 6, args[2], 16)
        start = ir.Constant(ir.IntType(64), 0)
        lanes.store(builder.or_(lanes.load(7, start), zigzag), 7, start)
        return context.get_dummy_value()

    return signature, generate


def _typed_context_lanes(_context: Any, base: Any, i: Any, top: Any, mantissa: Any, contexts: Any) -> Any:
    signature = types.void(base, types.intp, base.dtype, base.dtype, contexts)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = sig.args[0].dtype.bitwidth
        lanes = _Lanes(context, builder, sig, args, bits)
        place = lanes.context_of(lanes.load(0, args[1]), lanes.splat(args[2]), lanes.splat(args[3]))
        lanes.store(builder.shl(place, _constant(bits, TABLE_BITS)), 4, args[1], 16)
        return context.get_dummy_value()

    return signature, generate


def _typed_restore_lanes(_context: Any, y: Any, i: Any, out: Any) -> Any:
    signature = types.void(y, types.intp, out)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = sig.args[0].dtype.bitwidth
        lanes = _Lanes(context, builder, sig, args, bits)
        zigzag = builder.sub(lanes.load(0, args[1]), _constant(bits, 1))
        sign = builder.sub(_constant(bits, 0), builder.and_(zigzag, _constant(bits, 1)))
        difference = builder.xor(builder.lshr(zigzag, _constant(bits, 1)), sign)
        word = builder.add(lanes.ordered(lanes.load(2, args[1])), difference)
        lanes.store(lanes.ordered(word), 2, args[1])
        return context.get_dummy_value()

    return signature, generate


_prepare_lanes: Any = intrinsic(_typed_prepare_lanes)
_context_lanes: Any = intrinsic(_typed_context_lanes)
_restore_lanes: Any = intrinsic(_typed_restore_lanes)


def _unaligned(store: bool) -> Any:
    @intrinsic
    def load_64(_context: Any, array: Any, offset: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            return builder.load(builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer()), align=1)

        return types.uint64(array, offset), generate

    @intrinsic
    def store_64(_context: Any, array: Any, offset: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            builder.store(args[2], builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(array, offset, types.uint64), generate

    return store_64 if store else load_64


_load_64 = _unaligned(store=False)
_store_64 = _unaligned(store=True)


@njit(nogil=True, cache=True)
def prepare(words: Any, base: Any, top: Any, mantissa: Any, y: Any, symbols: Any, union: Any) -> None:
    for i in range(0, words.size, LANES):
        _prepare_lanes(words, base, i, top, mantissa, y, symbols, union)


@njit(nogil=True, cache=True)
def contexts(base: Any, top: Any, mantissa: Any, out: Any) -> None:
    for i in range(0, base.size, LANES):
        _context_lanes(base, i, top, mantissa, out)


@njit(nogil=True, cache=True)
def restore(y: Any, out: Any) -> None:
    for i in range(0, out.size, LANES):
        _restore_lanes(y, i, out)


@njit(nogil=True, cache=True)
def histogram(symbols: Any, counts: Any) -> None:
    """Every fourth pair of values: two histograms, since one would wait for itself where values repeat."""
    size = _U(symbols.size)
    i = _U(0)
    while i + _U(1) < size:
        counts[0, symbols[i]] += np.uint32(1)
        counts[1, symbols[i + _U(1)]] += np.uint32(1)
        i += _U(8)


@njit(nogil=True, cache=True)
def spread(frequencies: Any, tokens: Any) -> None:
    """Which token each entry of a context's table stands for: steps that visit all entries once (FSE, Collet 2013)."""
    position = 0
    for token in range(frequencies.size):
        for _ in range(frequencies[token]):
            tokens[position] = token
            position = (position + (TABLE >> 1) + (TABLE >> 3) + 3) & (TABLE - 1)


@njit(nogil=True, cache=True)
def encoder_tables(frequencies: Any, following: Any, table: Any) -> None:
    """frequencies [CONTEXTS, n] -> following [CONTEXTS * TABLE + TABLE], table [CONTEXTS * SYMBOLS].

    An entry of `table`: bits 0-31 what, added to the state, has the number of its bits to put out from bit 16 on;
    32-47 where the token's states begin in `following`. As many raw bits follow as the token says.
    """
    tokens = np.empty(TABLE, np.uint8)
    place = np.empty(SYMBOLS, np.int64)
    for context in range(frequencies.shape[0]):
        spread(frequencies[context], tokens)
        start = 0
        for token in range(frequencies.shape[1]):
            count = np.int64(frequencies[context, token])
            place[token] = TABLE * (context + 1) + start
            most = TABLE_BITS
            while count > 1 and (count - 1) >> (TABLE_BITS - most + 1) > 0:
                most -= 1
            low = _U((most << 16) - (count << most)) & _U(0xFFFFFFFF)
            begin = _U(TABLE * (context + 1) + start - count)
            table[context * SYMBOLS + token] = low | (begin << _U(32))
            start += count
        for entry in range(TABLE):
            token = tokens[entry]
            following[place[token]] = np.uint16(TABLE + entry)
            place[token] += 1


@njit(nogil=True, cache=True)
def decoder_tables(frequencies: Any, table: Any) -> None:
    """frequencies [CONTEXTS, n] -> table [CONTEXTS * TABLE]: bits 0-11 the next state, less what is read;
    12-15 how many bits are read for it; 16-23 those and the raw bits."""
    tokens = np.empty(TABLE, np.uint8)
    states = np.empty(SYMBOLS, np.int64)
    for context in range(frequencies.shape[0]):
        spread(frequencies[context], tokens)
        for token in range(frequencies.shape[1]):
            states[token] = frequencies[context, token]
        for entry in range(TABLE):
            token = np.int64(tokens[entry])
            state = states[token]
            states[token] = state + 1
            bits = 0
            while state << bits < TABLE:
                bits += 1
            word = ((state << bits) - TABLE) | (bits << 12) | ((bits + token) << 16)
            table[context * TABLE + entry] = np.uint32(word)


@njit(nogil=True, inline="always")
def _put(
    state: Any, symbol: Any, value: Any, table: Any, following: Any, out: Any, at: Any, held: Any, count: Any
) -> Any:
    entry = table[_U(symbol)]
    bits = ((state + (entry & _U(0xFFFFFFFF))) >> _U(16)) & _U(15)
    raw_bits = _U(symbol) & _U(63)
    raw = _U(value) & ((_U(1) << raw_bits) - _U(1))
    held |= ((raw << bits) | (state & ((_U(1) << bits) - _U(1)))) << count
    count += raw_bits + bits
    state = _U(following[(state >> bits) + ((entry >> _U(32)) & _U(0xFFFF))])
    _store_64(out, at, held)
    full = count >> _U(3)
    return state, at + full, held >> (full << _U(3)), count & _U(7)


@njit(nogil=True, cache=True)
def encode(y: Any, symbols: Any, table: Any, following: Any, out: Any, states: Any) -> Any:
    """Code the values from the last to the first; returns the number of bits. `out` has 8 bytes to spare."""
    a = b = c = d = e = f = g = h = _U(TABLE)
    at = held = count = _U(0)
    rounds = y.size // STATES
    for done in range(rounds):
        o = _U((rounds - 1 - done) * STATES)
        h, at, held, count = _put(h, symbols[o + _U(7)], y[o + _U(7)], table, following, out, at, held, count)
        g, at, held, count = _put(g, symbols[o + _U(6)], y[o + _U(6)], table, following, out, at, held, count)
        f, at, held, count = _put(f, symbols[o + _U(5)], y[o + _U(5)], table, following, out, at, held, count)
        e, at, held, count = _put(e, symbols[o + _U(4)], y[o + _U(4)], table, following, out, at, held, count)
        d, at, held, count = _put(d, symbols[o + _U(3)], y[o + _U(3)], table, following, out, at, held, count)
        c, at, held, count = _put(c, symbols[o + _U(2)], y[o + _U(2)], table, following, out, at, held, count)
        b, at, held, count = _put(b, symbols[o + _U(1)], y[o + _U(1)], table, following, out, at, held, count)
        a, at, held, count = _put(a, symbols[o], y[o], table, following, out, at, held, count)
    for lane, state in enumerate((a, b, c, d, e, f, g, h)):
        states[lane] = np.uint16(state - _U(TABLE))
    return (at << _U(3)) + count


@njit(nogil=True, inline="always")
def _get(state: Any, context: Any, table: Any, stream: Any, position: Any) -> Any:
    entry = _U(table[state | _U(context)])
    total = entry >> _U(16)
    position -= total
    word = _load_64(stream, position >> _U(3)) >> (position & _U(7))
    bits = (entry >> _U(12)) & _U(15)
    state = (entry & _U(0xFFF)) + (word & ((_U(1) << bits) - _U(1)))
    leading = _U(1) << total  # one above what was read: the value's leading bit, once the state's bits are gone
    return state, position, ((word & (leading - _U(1))) | leading) >> bits


@njit(nogil=True, cache=True)
def decode(contexts: Any, table: Any, stream: Any, bits: Any, states: Any, y: Any) -> Any:
    """The inverse of `encode`. False if the stream is not one: too short, too long, or ending in other states.

    `stream` has 8 bytes to spare. Nothing before its start is read: near it, every step is checked.
    """
    a, b, c, d = _U(states[0]), _U(states[1]), _U(states[2]), _U(states[3])
    e, f, g, h = _U(states[4]), _U(states[5]), _U(states[6]), _U(states[7])
    position = _U(bits)
    done = 0
    for i in range(0, y.size, STATES):
        if position < _U(GUARD_BITS):
            break
        o = _U(i)
        a, position, value = _get(a, contexts[o], table, stream, position)
        y[o] = value
        b, position, value = _get(b, contexts[o + _U(1)], table, stream, position)
        y[o + _U(1)] = value
        c, position, value = _get(c, contexts[o + _U(2)], table, stream, position)
        y[o + _U(2)] = value
        d, position, value = _get(d, contexts[o + _U(3)], table, stream, position)
        y[o + _U(3)] = value
        e, position, value = _get(e, contexts[o + _U(4)], table, stream, position)
        y[o + _U(4)] = value
        f, position, value = _get(f, contexts[o + _U(5)], table, stream, position)
        y[o + _U(5)] = value
        g, position, value = _get(g, contexts[o + _U(6)], table, stream, position)
        y[o + _U(6)] = value
        h, position, value = _get(h, contexts[o + _U(7)], table, stream, position)
        y[o + _U(7)] = value
        done = i + STATES
    for i in range(done, y.size):
        o = _U(i)
        if _U(table[a | _U(contexts[o])]) >> _U(16) > position:
            return False
        a, position, value = _get(a, contexts[o], table, stream, position)
        y[o] = value
        a, b, c, d, e, f, g, h = b, c, d, e, f, g, h, a
    return position == _U(0) and (a | b | c | d | e | f | g | h) == _U(0)
