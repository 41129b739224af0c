"""What the residual coder means, in NumPy and plain Python: slow, and bit for bit the same as the compiled one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels.reference import Words

TABLE_BITS, TABLE, CONTEXTS, STATES = 10, 1 << 10, 16, 8


def ordered(words: Words) -> Words:
    """Sign and magnitude to two's complement, in the order of the floats; its own inverse."""
    bits = 8 * words.itemsize
    negative = words >> words.dtype.type(bits - 1) == 1
    return np.where(negative, words ^ words.dtype.type((1 << (bits - 1)) - 1), words).astype(words.dtype)


def residuals(words: Words, base: Words) -> Words:
    """y: one more than the zigzag of the wrapping difference in the floats' order; 0 stands for 2**bits."""
    one, top = words.dtype.type(1), words.dtype.type(8 * words.itemsize - 1)
    with np.errstate(over="ignore"):
        difference = ordered(words) - ordered(base)
        zigzag = (difference << one) ^ (words.dtype.type(0) - (difference >> top))
        found: Words = zigzag + one
    return found


def restored(y: Words, base: Words) -> Words:
    """The inverse of `residuals`."""
    one = y.dtype.type(1)
    with np.errstate(over="ignore"):
        zigzag = y - one
        return ordered(ordered(base) + ((zigzag >> one) ^ (y.dtype.type(0) - (zigzag & one))))


def context(base: Words, top: int, mantissa: int) -> NDArray[np.int64]:
    """How far each exponent lies below `top`, from 0 to CONTEXTS - 1."""
    magnitude = base & base.dtype.type((1 << (8 * base.itemsize - 1)) - 1)
    found: NDArray[np.int64] = np.clip(top - (magnitude >> base.dtype.type(mantissa)).astype(np.int64), 0, CONTEXTS - 1)
    return found


def bit_lengths(y: Words) -> NDArray[np.int64]:
    """floor(log2 y), and the number of bits for 0."""
    values = y.astype(np.uint64)
    found = np.frexp(values.astype(np.float64))[1].astype(np.int64) - 1  # exact: words have at most 32 bits
    return np.where(values == 0, 8 * y.itemsize, found)


def spread(frequencies: NDArray[Any]) -> list[int]:
    """Which token each entry of a context's table stands for."""
    found = [0] * TABLE
    position = 0
    for token, count in enumerate(frequencies.tolist()):
        for _ in range(count):
            found[position] = token
            position = (position + (TABLE >> 1) + (TABLE >> 3) + 3) & (TABLE - 1)
    return found


def decoder_rows(frequencies: NDArray[Any]) -> list[tuple[int, int, int]]:
    """One context's table: (token, bits read for the next state, next state less what is read) of each state."""
    upcoming = frequencies.tolist()
    rows = []
    for token in spread(frequencies):
        state = upcoming[token]
        upcoming[token] += 1
        bits = TABLE_BITS + 1 - state.bit_length()
        rows.append((token, bits, (state << bits) - TABLE))
    return rows


def encode(y: Words, contexts: NDArray[Any], frequencies: NDArray[Any]) -> tuple[list[int], int, bytes]:
    """Code `y` [n], n a multiple of STATES: (the decoder's first states, bits, stream without padding)."""
    lookup: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for number, row in enumerate(frequencies):
        for state, (token, bits, low) in enumerate(decoder_rows(row)):
            lookup.setdefault((number, token), []).append((low, low + (1 << bits), state))
    states = [0] * STATES
    stream = count = 0
    lengths = bit_lengths(y).tolist()
    for i in reversed(range(y.size)):
        token, value = lengths[i], int(y[i])
        lane = i % STATES
        low, high, before = next(e for e in lookup[int(contexts[i]), token] if e[0] <= states[lane] < e[1])
        bits = (high - low).bit_length() - 1
        raw = value & ((1 << token) - 1)
        stream |= ((raw << bits) | (states[lane] - low)) << count
        count += token + bits
        states[lane] = before
    return states, count, stream.to_bytes(-(-count // 8), "little")
