"""What peers without a delta of their own are fed, and its inverse. In Numba, so that no peer pays for NumPy's passes.

Words are uint32 or uint16; all arithmetic wraps around, so every bit pattern survives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

from benchmarks.codecs.streams import Words

Function = TypeVar("Function", bound=Callable[..., None])


def _kernel(function: Function) -> Function:
    compiled: Any = njit(nogil=True, cache=True)(function)
    return cast(Function, compiled)


def xor(new: Words, old: Words) -> Words:
    result: Words = new ^ old
    return result


def undo_xor(coded: Words, old: Words, out: Words) -> None:
    np.bitwise_xor(coded, old, out=out)


def difference(new: Words, old: Words) -> Words:
    """The difference of the ordered integers: floats in their order, as signed integers of the same width."""
    out = np.empty_like(new)
    _difference(_signed(new), _signed(old), _signed(out), _magnitude(new))
    return out


def undo_difference(coded: Words, old: Words, out: Words) -> None:
    _undo_difference(_signed(coded), _signed(old), _signed(out), _magnitude(out))


def zigzag(new: Words, old: Words) -> Words:
    """`difference` with the sign in the lowest bit, for coders that look at bytes."""
    out = difference(new, old)
    _zigzag(_signed(out), 8 * out.itemsize - 1)
    return out


def undo_zigzag(coded: Words, old: Words, out: Words) -> None:
    signed = np.empty_like(coded)
    _undo_zigzag(coded, signed, coded.dtype.type(1))
    undo_difference(signed, old, out)


def ordered(words: Words) -> Words:
    """The ordered integers themselves."""
    return difference(words, np.zeros_like(words))


def undo_ordered(coded: Words, out: Words) -> None:
    undo_difference(coded, np.zeros_like(coded), out)


def split_xor(new: Words, old: Words, planes: Any) -> None:
    """planes [width, n], uint8: the bytes of new ^ old, the lowest first."""
    (_split4 if new.itemsize == 4 else _split2)(new, old, planes)


def join_xor(planes: Any, old: Words, out: Words) -> None:
    (_join4 if out.itemsize == 4 else _join2)(planes, old, out)


def _signed(words: Words) -> Any:
    return words.view(np.int32 if words.itemsize == 4 else np.int16)


def _magnitude(words: Words) -> Any:
    return np.int32(0x7FFFFFFF) if words.itemsize == 4 else np.int16(0x7FFF)


# Negative floats have the bits of their magnitude flipped, so that the integers compare as the floats do.
@_kernel
def _difference(new: Any, old: Any, out: Any, magnitude: Any) -> None:
    for i in range(new.size):
        a = new[i] ^ magnitude if new[i] < 0 else new[i]
        b = old[i] ^ magnitude if old[i] < 0 else old[i]
        out[i] = a - b


@_kernel
def _undo_difference(coded: Any, old: Any, out: Any, magnitude: Any) -> None:
    for i in range(out.size):
        out[i] = coded[i] + (old[i] ^ magnitude if old[i] < 0 else old[i])
        out[i] = out[i] ^ magnitude if out[i] < 0 else out[i]


@_kernel
def _zigzag(values: Any, shift: int) -> None:
    for i in range(values.size):
        values[i] = (values[i] << 1) ^ (values[i] >> shift)


@_kernel
def _undo_zigzag(coded: Any, out: Any, one: Any) -> None:
    for i in range(coded.size):
        out[i] = (coded[i] >> one) ^ (~(coded[i] & one) + one)


@_kernel
def _split4(new: Any, old: Any, planes: Any) -> None:
    for i in range(new.size):
        word = new[i] ^ old[i]
        planes[0, i] = word
        planes[1, i] = word >> 8
        planes[2, i] = word >> 16
        planes[3, i] = word >> 24


@_kernel
def _split2(new: Any, old: Any, planes: Any) -> None:
    for i in range(new.size):
        word = new[i] ^ old[i]
        planes[0, i] = word
        planes[1, i] = word >> 8


@_kernel
def _join4(planes: Any, old: Any, out: Any) -> None:
    for i in range(out.size):
        low = np.uint32(planes[0, i]) | np.uint32(planes[1, i]) << np.uint32(8)
        high = np.uint32(planes[2, i]) << np.uint32(16) | np.uint32(planes[3, i]) << np.uint32(24)
        out[i] = low | high
        out[i] ^= old[i]


@_kernel
def _join2(planes: Any, old: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = (np.uint16(planes[0, i]) | np.uint16(planes[1, i]) << np.uint16(8)) ^ old[i]
