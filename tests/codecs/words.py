"""Chunks as words: bits that are hard on codecs, and what training leaves."""

from __future__ import annotations

import numpy as np

from castore.dtypes import DType, by_name
from castore.kernels.reference import Words


def kind(dtype: DType) -> np.dtype[np.unsignedinteger]:
    """The unsigned words of a dtype."""
    return np.dtype(f"<u{dtype.word}")


def mantissa(dtype: DType) -> int:
    """Bits below the exponent, of floats with a sign."""
    return 8 * dtype.word - 1 - dtype.exponent


def noise(dtype: DType, count: int, seed: int) -> Words:
    return np.frombuffer(np.random.default_rng(seed).bytes(count * dtype.word), kind(dtype)).copy()


def edges(dtype: DType, count: int) -> Words:
    """Zeros of both signs, infinities, NaNs with payloads, denormals, the largest finite; over and over."""
    bits = 8 * dtype.word
    below = max(mantissa(dtype), 0) if dtype.exponent else bits - 1
    sign, ones = 1 << (bits - 1), (1 << bits) - 1
    infinity = ((1 << dtype.exponent) - 1) << below & ones
    values = [0, 1, 2, sign, sign | 1, sign - 1, ones, ones - 1, infinity, sign | infinity, infinity | 1]
    values += [sign | infinity | 5, infinity - 1 & ones, 1 << below & ones, (1 << below) - 1]
    found: Words = np.resize(np.array(values, kind(dtype)), count)
    return found


def pairs(dtype: DType, count: int) -> dict[str, tuple[Words, Words]]:
    """(words, base) by what they are like."""
    one = kind(dtype).type(1)
    base, hard = noise(dtype, count, 1), edges(dtype, count)
    steps = np.random.default_rng(2).integers(0, 9, count).astype(kind(dtype))
    bases = np.random.default_rng(3).permutation(hard)
    few = base.copy()
    few[: count // 3] += one
    runs = base * (np.arange(count) // 300 % 2).astype(kind(dtype))
    return {
        "unrelated": (noise(dtype, count, 4), base),
        "near": (base + steps, base),
        "equal": (base, base),
        "inverted": (~base, base),
        "one below": (base - one, base),
        "edges": (hard, bases),
        "edges of noise": (hard, base),
        "noise of edges": (base, hard),
        "farthest apart": (np.full(count, ~np.zeros(1, kind(dtype))[0]), np.zeros(count, kind(dtype))),
        "sparse": (few, base),
        "runs of zeros": (runs, np.roll(runs, 40)),
        "all zero": (np.zeros(count, kind(dtype)), np.zeros(count, kind(dtype))),
    }


def trained(count: int) -> tuple[Words, Words]:
    """Weights after an optimizer's step, and before it, as bits of float32."""
    rng = np.random.default_rng(7)
    before = (rng.standard_normal(count) * 0.02).astype("<f4")
    after = before + (1e-4 * rng.standard_normal(count)).astype("<f4")
    return after.view("<u4"), before.view("<u4")


def trained_as(dtype: DType, count: int = 1 << 17) -> tuple[bytes, bytes]:
    """The same as raw bytes of float32, or rounded to bfloat16."""
    after, before = trained(count)
    if dtype is by_name("bfloat16"):
        after, before = (after >> 16).astype("<u2"), (before >> 16).astype("<u2")
    return after.tobytes(), before.tobytes()
