"""The decoder of residuals in Numba; what each step means is in `residual_reference`, the format in `codecs/residual`.

Tokens and the raw bits below them share one bit stream, which costs one unaligned load, two masks and a table look-up
a value. Eight interleaved states give it that many independent chains. All indices are unsigned 64-bit: signed ones
would be checked for wrap-around at every access.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from castore.kernels.bits import U, load_64, lowest
from castore.kernels.blocks import LANES
from castore.kernels.compiling import helper, kernel, step
from castore.kernels.vectors import Lanes

STATES = 8
TABLE_BITS = 10
CONTEXTS = 16
GUARD_BITS = STATES * (TABLE_BITS + 32)  # what one round of the decoder takes at most


def _typed_context(_context: Any, base: Any, i: Any, top: Any, mantissa: Any, contexts: Any) -> Any:
    """How far the base's exponent lies below `top`, from 0 to CONTEXTS - 1, times the size of a table."""
    signature = types.void(base, types.intp, base.dtype, base.dtype, contexts)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b, most = builder, lanes.splat(args[2])
        magnitude = b.and_(lanes.load(0, args[1]), lanes.constant((1 << (lanes.bits - 1)) - 1))
        exponent = b.lshr(magnitude, lanes.splat(args[3]))
        below = b.select(b.icmp_unsigned("<", most, exponent), lanes.constant(0), b.sub(most, exponent))
        place = lanes.least(below, lanes.constant(CONTEXTS - 1))
        lanes.store(b.shl(place, lanes.constant(TABLE_BITS)), 4, args[1])
        return context.get_dummy_value()

    return signature, generate


def _typed_restore(_context: Any, y: Any, i: Any, out: Any) -> Any:
    signature = types.void(y, types.intp, out)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        difference = lanes.unzigzag(builder.sub(lanes.load(0, args[1]), lanes.constant(1)))
        word = builder.add(lanes.ordered(lanes.load(2, args[1])), difference)
        lanes.store(lanes.ordered(word), 2, args[1])
        return context.get_dummy_value()

    return signature, generate


_context: Any = intrinsic(_typed_context)
_restore: Any = intrinsic(_typed_restore)


@step
def _get(state: Any, context: Any, table: Any, stream: Any, position: Any) -> Any:
    entry = U(table[state | U(context)])
    bits = entry & U(0xFF)  # of the state; as many raw ones as the token says
    total = bits + ((entry >> U(8)) & U(0xFF))
    position -= total
    word = load_64(stream, position >> U(3)) >> (position & U(7))
    leading = U(1) << total  # one above what was read: the value's leading bit, once the state's bits are gone
    return (entry >> U(16)) + lowest(word, bits), position, ((word & (leading - U(1))) | leading) >> bits


@helper
def _values(contexts: Any, table: Any, stream: Any, bits: Any, states: Any, y: Any) -> Any:
    """The values `y` of a stream. Nothing before its start is read: near it, every step is checked."""
    a, b, c, d = U(states[0]), U(states[1]), U(states[2]), U(states[3])
    e, f, g, h = U(states[4]), U(states[5]), U(states[6]), U(states[7])
    position = U(bits)
    done = 0
    for i in range(0, y.size, STATES):
        if position < U(GUARD_BITS):
            break
        o = U(i)
        a, position, value = _get(a, contexts[o], table, stream, position)
        y[o] = value
        b, position, value = _get(b, contexts[o + U(1)], table, stream, position)
        y[o + U(1)] = value
        c, position, value = _get(c, contexts[o + U(2)], table, stream, position)
        y[o + U(2)] = value
        d, position, value = _get(d, contexts[o + U(3)], table, stream, position)
        y[o + U(3)] = value
        e, position, value = _get(e, contexts[o + U(4)], table, stream, position)
        y[o + U(4)] = value
        f, position, value = _get(f, contexts[o + U(5)], table, stream, position)
        y[o + U(5)] = value
        g, position, value = _get(g, contexts[o + U(6)], table, stream, position)
        y[o + U(6)] = value
        h, position, value = _get(h, contexts[o + U(7)], table, stream, position)
        y[o + U(7)] = value
        done = i + STATES
    for i in range(done, y.size):
        o = U(i)
        entry = U(table[a | U(contexts[o])])
        if (entry & U(0xFF)) + ((entry >> U(8)) & U(0xFF)) > position:
            return False
        a, position, value = _get(a, contexts[o], table, stream, position)
        y[o] = value
        a, b, c, d, e, f, g, h = b, c, d, e, f, g, h, a
    return position == U(0) and (a | b | c | d | e | f | g | h) == U(0)


@kernel
def decode(
    out: Any,
    top: Any,
    mantissa: Any,
    table: Any,
    states: Any,
    stream: Any,
    bits: Any,
    contexts: Any,
    y: Any,
) -> Any:
    """Turn `out`, which holds the base, into the words.

    False, and `out` as it was, if the stream is not one: too short, too long, or ending in other states than zero.
    `stream` has 8 bytes behind its bits. table: of `tans_native.decoder_tables`. contexts [n], y [n]: scratch.
    """
    for i in range(0, out.size, LANES):
        _context(out, i, top, mantissa, contexts)
    if not _values(contexts, table, stream, bits, states, y):
        return False
    for i in range(0, out.size, LANES):
        _restore(y, i, out)
    return True
