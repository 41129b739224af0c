"""The steps of the ordered-delta coder over LANES words at a time, as Numba intrinsics.

What each step means is in `delta_reference`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from castore.kernels.blocks import ROW
from castore.kernels.vectors import Lanes


def _context_of(lanes: Lanes, base: Any, top: Any, mantissa: Any, shift: Any, last: Any) -> Any:
    """How far the base's exponent lies below `top`, in steps of 2**shift, from 0 to `last`."""
    b = lanes.builder
    magnitude = b.and_(base, lanes.constant((1 << (lanes.bits - 1)) - 1))
    exponent = b.lshr(magnitude, mantissa)
    below = b.select(b.icmp_unsigned("<", top, exponent), lanes.constant(0), b.sub(top, exponent))
    return lanes.least(b.lshr(below, shift), last)


def _difference(lanes: Lanes, builder: Any, args: Any) -> tuple[Any, Any, Any]:
    """(y, token, context) of LANES words, from an intrinsic's arguments: words, base, at, and the six of the fit."""
    b, bits = builder, lanes.bits
    new, old = lanes.load(0, args[2]), lanes.load(1, args[2])
    low = lanes.splat(args[3])
    mask = b.sub(lanes.constant(0), lanes.splat(args[8]))  # floats: their order is not that of their bits
    new_order = b.or_(b.and_(lanes.ordered(new), mask), b.and_(new, b.not_(mask)))
    old_order = b.or_(b.and_(lanes.ordered(old), mask), b.and_(old, b.not_(mask)))
    least = b.shl(lanes.constant(1), low)
    value = b.add(lanes.zigzag(b.sub(new_order, old_order)), least)
    token = b.sub(lanes.bit_length_less_one(value), low)
    token = b.select(b.icmp_unsigned("<", value, least), b.sub(lanes.constant(bits), low), token)
    return value, token, _context_of(lanes, old, *(lanes.splat(args[k]) for k in (4, 5, 6, 7)))


def _store_symbols(lanes: Lanes, token: Any, place: Any, argument: int, index: Any) -> None:
    """context * ROW + token: 10 bits, so that bytes are widened first."""
    wide = Lanes(lanes.context, lanes.builder, lanes.signature, lanes.arguments, max(lanes.bits, 16))
    token, place = lanes.resized(token, lanes.bits, wide.bits), lanes.resized(place, lanes.bits, wide.bits)
    wide.store(lanes.builder.or_(lanes.builder.shl(place, wide.constant(6)), token), argument, index)


def _typed_count(
    _context: Any,
    words: Any,
    base: Any,
    at: Any,
    low: Any,
    top: Any,
    mantissa: Any,
    shift: Any,
    last: Any,
    is_float: Any,
    i: Any,
    symbols: Any,
) -> Any:
    """symbols[i...] of words[at...]."""
    word = words.dtype
    signature = types.void(words, base, types.intp, word, word, word, word, word, word, types.intp, symbols)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        _, token, place = _difference(lanes, builder, args)
        _store_symbols(lanes, token, place, 10, args[9])
        return context.get_dummy_value()

    return signature, generate


def _typed_prepare(
    _context: Any,
    words: Any,
    base: Any,
    at: Any,
    low: Any,
    top: Any,
    mantissa: Any,
    shift: Any,
    last: Any,
    is_float: Any,
    i: Any,
    symbols: Any,
    above: Any,
    fields: Any,
    masks: Any,
    out: Any,
    plane: Any,
    stride: Any,
    planes: Any,
    nowhere: Any,
) -> Any:
    """symbols[i...]; fields[i...] <- what lies `above` so many bits of y, with masks; out[plane + k * stride...] <-
    byte k of y, for k < planes: the others, which are at hand anyway, go to out[nowhere...]."""
    word = words.dtype
    signature = types.void(
        words, base, types.intp, word, word, word, word, word, word, types.intp, symbols, word, fields, masks, out,
        types.intp, types.intp, types.intp, types.intp,
    )  # fmt: skip

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        b = builder
        value, token, place = _difference(lanes, builder, args)
        _store_symbols(lanes, token, place, 10, args[9])
        shift = lanes.splat(args[11])
        lanes.store(b.lshr(value, shift), 12, args[9], lanes.bits)
        count = b.add(token, b.sub(lanes.splat(args[3]), shift))
        lanes.store(lanes.ones(count), 13, args[9], lanes.bits)
        at = args[15]
        for k in range(lanes.bits // 8 - 1):
            wanted = b.icmp_signed("<", ir.Constant(args[17].type, k), args[17])
            lanes.store(b.lshr(value, lanes.constant(8 * k)), 14, b.select(wanted, at, args[18]))
            at = b.add(at, args[16])
        return context.get_dummy_value()

    return signature, generate


def _typed_contexts(
    _context: Any, base: Any, at: Any, top: Any, mantissa: Any, shift: Any, last: Any, bits: Any, i: Any, contexts: Any
) -> Any:
    word = base.dtype
    signature = types.void(base, types.intp, word, word, word, word, types.uint16, types.intp, contexts)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[0].dtype.bitwidth)
        place = _context_of(lanes, lanes.load(0, args[1]), *(lanes.splat(args[k]) for k in (2, 3, 4, 5)))
        short = Lanes(context, builder, sig, args, 16)
        place = lanes.resized(place, lanes.bits, 16)
        short.store(builder.shl(place, short.splat(args[6])), 8, args[7])
        return context.get_dummy_value()

    return signature, generate


def _typed_masks(_context: Any, tokens: Any, least: Any, i: Any, masks: Any) -> Any:
    signature = types.void(tokens, least, types.intp, masks)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[1].bitwidth)
        token = builder.and_(lanes.load(0, args[2]), lanes.constant(ROW - 1))
        count = lanes.least(builder.add(token, lanes.splat(args[1])), lanes.constant(lanes.bits))
        lanes.store(lanes.ones(count), 3, args[2], lanes.bits)
        return context.get_dummy_value()

    return signature, generate


def _typed_plane_in(_context: Any, planes: Any, at: Any, shift: Any, i: Any, y: Any) -> Any:
    signature = types.void(planes, types.intp, shift, types.intp, y)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[2].bitwidth)
        part = builder.shl(lanes.load(0, args[1]), lanes.splat(args[2]))
        lanes.store(builder.or_(lanes.load(4, args[3], lanes.bits), part), 4, args[3], lanes.bits)
        return context.get_dummy_value()

    return signature, generate


def _typed_leading(_context: Any, fields: Any, masks: Any, i: Any, shift: Any) -> Any:
    """fields <- the fields under their leading bits, moved up to make room for the planes."""
    signature = types.void(fields, masks, types.intp, shift)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[3].bitwidth)
        field, mask = (lanes.load(k, args[2], lanes.bits) for k in (0, 1))
        whole = builder.add(builder.add(field, mask), lanes.constant(1))
        lanes.store(builder.shl(whole, lanes.splat(args[3])), 0, args[2], lanes.bits)
        return context.get_dummy_value()

    return signature, generate


def _typed_restore(_context: Any, y: Any, i: Any, low: Any, ordered: Any, out: Any, at: Any) -> Any:
    signature = types.void(y, types.intp, out.dtype, out.dtype, out, types.intp)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lanes = Lanes(context, builder, sig, args, sig.args[4].dtype.bitwidth)
        b = builder
        zigzag = b.sub(lanes.load(0, args[1], lanes.bits), b.shl(lanes.constant(1), lanes.splat(args[2])))
        mask = b.sub(lanes.constant(0), lanes.splat(args[3]))
        old = lanes.load(4, args[5])
        old_order = b.or_(b.and_(lanes.ordered(old), mask), b.and_(old, b.not_(mask)))
        word = b.add(old_order, lanes.unzigzag(zigzag))
        lanes.store(b.or_(b.and_(lanes.ordered(word), mask), b.and_(word, b.not_(mask))), 4, args[5])
        return context.get_dummy_value()

    return signature, generate


symbols_of: Any = intrinsic(_typed_count)
prepare: Any = intrinsic(_typed_prepare)
contexts: Any = intrinsic(_typed_contexts)
masks: Any = intrinsic(_typed_masks)
plane_in: Any = intrinsic(_typed_plane_in)
leading: Any = intrinsic(_typed_leading)
restore: Any = intrinsic(_typed_restore)
