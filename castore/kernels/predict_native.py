"""Predictions of a chunk from other chunks, in Numba: IEEE single precision in the order that is written here.

Bit for bit the same everywhere: no fused multiply-add and no reassociation (Numba does neither unless asked to), square
root and division as IEEE 754 rounds them. What a thread does with denormals is up to whoever set its control word, so
that every intermediate below 2**-125 counts as zero; a prediction that is no number is replaced by the first base,
since the bits of a NaN differ between processors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from castore.kernels.compiling import kernel, step

_F = np.float32
_SMALL = np.uint32(0x01000000)  # the bits of 2**-125
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)


def _typed_bits(_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint32))

    return types.uint32(types.float32), generate


def _typed_float(_context: Any, bits: Any) -> Any:
    def generate(context: Any, builder: Any, _sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float32))

    return types.float32(types.uint32), generate


_bits: Any = intrinsic(_typed_bits)
_float: Any = intrinsic(_typed_float)


@step
def _flushed(value: Any) -> Any:
    magnitude = np.uint32(_bits(value) & _MAGNITUDE)
    return value if magnitude >= _SMALL else _F(0.0)


@step
def _in(word: Any) -> Any:
    return _flushed(_float(word))


@step
def _out(value: Any, instead: Any) -> Any:
    found = _bits(_flushed(value))
    return found if np.uint32(found & _MAGNITUDE) <= _INFINITY else instead


@kernel
def adaptive_step(old: Any, first: Any, second: Any, factors: Any, out: Any) -> None:
    """factors [4] = c, a, s, eps: out = c * old + (a * first) / (sqrt(second) / s + eps).

    A step of Adam(W) (Kingma and Ba 2015; Loshchilov and Hutter 2019) in torch's order of operations. `first` and
    `second` are the moments after it; c = 1 - lr * weight_decay, a = -lr / (1 - beta1**t), s = sqrt(1 - beta2**t).
    """
    c, a, s, eps = factors[0], factors[1], factors[2], factors[3]
    for i in range(out.size):
        below = _flushed(_flushed(np.sqrt(_in(second[i])) / s) + eps)
        step = _flushed(_flushed(a * _in(first[i])) / below)
        out[i] = _out(_flushed(_in(old[i]) * c) + step, old[i])


@kernel
def momentum_step(old: Any, momentum: Any, factors: Any, out: Any) -> None:
    """factors [2] = c, a: out = c * old + a * momentum."""
    c, a = factors[0], factors[1]
    for i in range(out.size):
        out[i] = _out(_flushed(_in(old[i]) * c) + _flushed(a * _in(momentum[i])), old[i])


@kernel
def second_moment(old: Any, first_old: Any, first: Any, factors: Any, out: Any) -> None:
    """factors [3] = 1 - beta1, beta2, 1 - beta2: the gradient that made `first` of `first_old` by torch's `lerp_` is
    g = first_old + (first - first_old) / (1 - beta1), and out = beta2 * old + ((1 - beta2) * g) * g."""
    share1, b2, share2 = factors[0], factors[1], factors[2]
    for i in range(out.size):
        before = _in(first_old[i])
        g = _flushed(before + _flushed(_flushed(_in(first[i]) - before) / share1))
        out[i] = _out(_flushed(_in(old[i]) * b2) + _flushed(_flushed(share2 * g) * g), old[i])


@kernel
def rounded(wide: Any, out: Any) -> None:
    """float32 to bfloat16, to the nearest, ties to even, as torch does; every NaN to 0x7fc0."""
    for i in range(out.size):
        word = wide[i]
        up = np.uint32(word + np.uint32(0x7FFF) + np.uint32((word >> np.uint32(16)) & np.uint32(1)))
        nan = np.uint32(word & _MAGNITUDE) > _INFINITY
        out[i] = np.uint16(0x7FC0) if nan else np.uint16(up >> np.uint32(16))
