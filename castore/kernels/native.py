"""The kernels in Numba. One function per transform; Numba compiles it once per word width, when first asked to.

Splitting is written as explicit vectors of 32 words: left to itself LLVM picks the vector length of the wide type and
stores planes 8 bytes at a time, which halves the speed. Joining it vectorises well by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from castore.kernels.compiling import kernel

LANES = 32  # words in one step; `split_*` need at least that many


def _vector_split(forward: Callable[..., Any]) -> Any:
    """An intrinsic (words, base, i, planes, stride): split words[i : i + LANES] to planes[k * stride + i ...]."""

    @intrinsic
    def split_lanes(_context: Any, words: Any, base: Any, i: Any, planes: Any, stride: Any) -> Any:
        signature = types.void(words, base, types.intp, planes, types.intp)

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            bits = sig.args[0].dtype.bitwidth
            vector = ir.VectorType(ir.IntType(bits), LANES)
            narrow = ir.VectorType(ir.IntType(8), LANES)

            def at(argument: int, index: Any, kind: Any) -> Any:
                array = context.make_array(sig.args[argument])(context, builder, args[argument])
                return builder.bitcast(builder.gep(array.data, [index]), kind.as_pointer())

            def constant(value: int) -> Any:
                return ir.Constant(vector, [value] * LANES)

            def load(argument: int) -> Any:
                return builder.load(at(argument, args[2], vector), align=1)

            word = forward(builder, load, constant, bits)
            position = args[2]
            for k in range(bits // 8):
                plane = builder.trunc(builder.lshr(word, constant(8 * k)) if k else word, narrow)
                builder.store(plane, at(3, position, narrow), align=1)
                position = builder.add(position, args[4])
            return context.get_dummy_value()

        return signature, generate

    return split_lanes


def _forward_plain(_builder: Any, load: Any, _constant: Any, _bits: int) -> Any:
    return load(0)


def _forward_rotate(builder: Any, load: Any, constant: Any, bits: int) -> Any:
    word = load(0)
    return builder.or_(builder.shl(word, constant(1)), builder.lshr(word, constant(bits - 1)))


def _forward_xor(builder: Any, load: Any, _constant: Any, _bits: int) -> Any:
    return builder.xor(load(0), load(1))


def _forward_sub(builder: Any, load: Any, constant: Any, bits: int) -> Any:
    difference = builder.sub(load(0), load(1))
    return builder.xor(builder.shl(difference, constant(1)), builder.ashr(difference, constant(bits - 1)))


_lanes_plain = _vector_split(_forward_plain)
_lanes_rotate = _vector_split(_forward_rotate)
_lanes_xor = _vector_split(_forward_xor)
_lanes_sub = _vector_split(_forward_sub)

# The last step of each overlaps the one before: writing the same bytes twice costs less than a loop for the tail.


@kernel
def split_plain(words: Any, planes: Any, stride: int) -> None:
    for i in range(0, words.size - LANES, LANES):
        _lanes_plain(words, words, i, planes, stride)
    _lanes_plain(words, words, words.size - LANES, planes, stride)


@kernel
def split_rotate(words: Any, planes: Any, stride: int) -> None:
    for i in range(0, words.size - LANES, LANES):
        _lanes_rotate(words, words, i, planes, stride)
    _lanes_rotate(words, words, words.size - LANES, planes, stride)


@kernel
def split_xor(words: Any, base: Any, planes: Any, stride: int) -> None:
    for i in range(0, words.size - LANES, LANES):
        _lanes_xor(words, base, i, planes, stride)
    _lanes_xor(words, base, words.size - LANES, planes, stride)


@kernel
def split_sub(words: Any, base: Any, planes: Any, stride: int) -> None:
    for i in range(0, words.size - LANES, LANES):
        _lanes_sub(words, base, i, planes, stride)
    _lanes_sub(words, base, words.size - LANES, planes, stride)


def _word(out: Any, i: int, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> Any:
    """Word i of the planes, as wide as `out`'s; planes beyond that width are not read."""
    raise NotImplementedError("compiled code only")


@overload(_word, inline="always")
def _word_of_width(
    out: Any, i: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any
) -> Callable[..., Any]:
    def two(out: Any, i: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> Any:
        return np.uint16(p0[i]) | (np.uint16(p1[i]) << np.uint16(8))

    def four(out: Any, i: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> Any:
        low = np.uint32(p0[i]) | (np.uint32(p1[i]) << np.uint32(8))
        return low | (np.uint32(p2[i]) << np.uint32(16)) | (np.uint32(p3[i]) << np.uint32(24))

    def eight(out: Any, i: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> Any:
        low = np.uint64(p0[i]) | (np.uint64(p1[i]) << np.uint64(8))
        low |= (np.uint64(p2[i]) << np.uint64(16)) | (np.uint64(p3[i]) << np.uint64(24))
        high = (np.uint64(p4[i]) << np.uint64(32)) | (np.uint64(p5[i]) << np.uint64(40))
        return low | high | (np.uint64(p6[i]) << np.uint64(48)) | (np.uint64(p7[i]) << np.uint64(56))

    return {16: two, 32: four, 64: eight}[out.dtype.bitwidth]


@kernel
def join_plain(out: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> None:
    for i in range(out.size):
        out[i] = _word(out, i, p0, p1, p2, p3, p4, p5, p6, p7)


@kernel
def join_rotate(out: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> None:
    one = out.dtype.type(1)
    top = out.dtype.type(8 * out.itemsize - 1)
    for i in range(out.size):
        word = _word(out, i, p0, p1, p2, p3, p4, p5, p6, p7)
        out[i] = (word >> one) | (word << top)


@kernel
def join_xor(out: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> None:
    for i in range(out.size):
        out[i] ^= _word(out, i, p0, p1, p2, p3, p4, p5, p6, p7)


@kernel
def join_sub(out: Any, p0: Any, p1: Any, p2: Any, p3: Any, p4: Any, p5: Any, p6: Any, p7: Any) -> None:
    one = out.dtype.type(1)
    zero = out.dtype.type(0)
    for i in range(out.size):
        word = _word(out, i, p0, p1, p2, p3, p4, p5, p6, p7)
        out[i] += (word >> one) ^ (zero - (word & one))


@kernel
def entropies(planes: Any, n_log_n: Any, counts: Any, bits: Any) -> None:
    size = planes.shape[1]
    one = np.uint32(1)
    for row in range(planes.shape[0]):
        counts[:, :] = 0
        # Four tables in turn: in one, each repeat of a byte would wait for the count before it to be stored.
        plane = planes[row]
        even = size & ~3
        for i in range(0, even, 4):
            counts[0, plane[i]] += one
            counts[1, plane[i + 1]] += one
            counts[2, plane[i + 2]] += one
            counts[3, plane[i + 3]] += one
        for i in range(even, size):
            counts[0, plane[i]] += one
        distinct = 0
        total = 0.0
        for value in range(256):
            count = counts[0, value] + counts[1, value] + counts[2, value] + counts[3, value]
            total += n_log_n[count]
            distinct += count != 0
        # Miller-Madow: a small sample makes rare values look rarer.
        bits[row] = (n_log_n[size] - total) / size + (distinct - 1) / (2.0 * np.log(2.0) * size)
