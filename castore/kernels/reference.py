"""What each kernel means, in NumPy: slow, short, and what a process works with until compiling pays.

A chunk is an array of unsigned little-endian words of 1, 2, 4 or 8 bytes. A transform maps each word to another of
the same width; plane k is byte k of every transformed word, least significant first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]  # uint8, uint16, uint32 or uint64
Bytes = NDArray[np.uint8]


class Transform(IntEnum):
    """How words become what is split into planes; each is a bijection for a given base."""

    PLAIN = 0  # as they are: integers
    ROTATE = 1  # left by one bit: a float's sign goes below its mantissa, and the top plane is all exponent
    XOR = 2  # with the base's word
    SUB = 3  # wrapping difference to the base's word, zigzag: small changes of either sign get small words


def split(transform: Transform, words: Words, base: Words | None, planes: Bytes) -> None:
    """Write the planes of `words` [n] into `planes` [word bytes, n]; `base` [n] is read by XOR and SUB only."""
    planes[:] = _forward(transform, words, base).view(np.uint8).reshape(words.size, words.itemsize).T


def join(transform: Transform, planes: Sequence[Bytes], out: Words) -> None:
    """The inverse of `split`: `out` [n] becomes the words; for XOR and SUB it holds the base's on entry."""
    one, _, top = _constants(out)
    words = np.stack(planes, axis=1).reshape(-1).view(out.dtype)
    if transform is Transform.PLAIN:
        out[:] = words
    elif transform is Transform.ROTATE:
        out[:] = (words >> one) | (words << top)
    elif transform is Transform.XOR:
        out ^= words
    else:
        out += unzigzag(words)


def entropies(planes: Bytes) -> NDArray[np.float64]:
    """The order-0 entropy of each row of `planes` [k, m], m > 0, in bits a byte, corrected for the sample's size [k].

    The correction (Miller-Madow) makes up for rare values that a small sample misses; it may exceed 8 by a little.
    A constant row gives exactly 0.
    """
    rows, size = planes.shape
    # All rows in one count: a look at a chunk takes a tenth of a millisecond, and most of that was calls.
    values = planes + (np.arange(rows, dtype=np.intp) * 256)[:, np.newaxis]
    counts = np.bincount(values.reshape(-1), minlength=256 * rows).reshape(rows, 256)
    logs = _weighted_logs(size)[counts].sum(axis=1)
    bits: NDArray[np.float64] = (size * np.log2(size) - logs) / size
    bits += (np.count_nonzero(counts, axis=1) - 1) / (2 * np.log(2) * size)
    return bits


@functools.lru_cache(maxsize=4)
def _weighted_logs(size: int) -> NDArray[np.float64]:
    """n * log2(n) for n = 0 .. size: looked up, since so many logarithms took a third of a look at a chunk."""
    counts = np.arange(size + 1, dtype=np.float64)
    table: NDArray[np.float64] = counts * np.log2(np.maximum(counts, 1))
    return table


def _forward(transform: Transform, words: Words, base: Words | None) -> Words:
    one, _, top = _constants(words)
    if transform is Transform.PLAIN:
        return words
    mapped: Words
    if transform is Transform.ROTATE:
        mapped = (words << one) | (words >> top)
        return mapped
    assert base is not None
    if transform is Transform.XOR:
        mapped = words ^ base
        return mapped
    return zigzag(words - base)


def zigzag(difference: Words) -> Words:
    """Small differences of either sign to small words: 0, -1, 1, -2 ... to 0, 1, 2, 3 ..."""
    one, zero, top = _constants(difference)
    found: Words = (difference << one) ^ (zero - (difference >> top))
    return found


def unzigzag(words: Words) -> Words:
    """The inverse of `zigzag`."""
    one, zero, _ = _constants(words)
    found: Words = (words >> one) ^ (zero - (words & one))
    return found


def ordered(words: Words) -> Words:
    """Sign and magnitude to two's complement, in the order of the floats; its own inverse."""
    one, zero, top = _constants(words)
    found: Words = words ^ ((zero - (words >> top)) >> one)
    return found


def _constants(words: Words) -> tuple[Any, Any, Any]:
    kind = words.dtype.type
    return kind(1), kind(0), kind(8 * words.itemsize - 1)
