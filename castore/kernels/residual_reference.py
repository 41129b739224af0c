"""What the residual coder means, in NumPy and plain Python: slow, and bit for bit the same as the compiled decoder.

It encodes too, which castore no longer does: tests need what stores of old hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import tans_reference as tans
from castore.kernels.reference import Words, ordered, unzigzag, zigzag

TABLE, CONTEXTS, STATES = 1 << 10, 16, 8


def residuals(words: Words, base: Words) -> Words:
    """y: one more than the zigzag of the wrapping difference in the floats' order; 0 stands for 2**bits."""
    found: Words = zigzag(ordered(words) - ordered(base)) + words.dtype.type(1)
    return found


def restored(y: Words, base: Words) -> Words:
    """The inverse of `residuals`."""
    return ordered(ordered(base) + unzigzag(y - y.dtype.type(1)))


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


def normalised(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Frequencies that sum to TABLE in each context, at least 1 for every token.

    A context without counts gets all tokens alike, the first ones taking what is left over.
    """
    tokens = counts.shape[1]
    rows = []
    for row in counts.tolist():
        total = sum(row)
        shares = [1 + (n * (TABLE - tokens) // total if total else (TABLE - tokens) // tokens) for n in row]
        left = TABLE - sum(shares)
        if total:
            shares[row.index(max(row))] += left
        else:
            shares[:left] = [share + 1 for share in shares[:left]]
        rows.append(shares)
    return np.array(rows, np.uint16)


def encode(y: Words, contexts: NDArray[Any], frequencies: NDArray[Any]) -> tuple[list[int], int, bytes]:
    """Code `y` [n], n a multiple of STATES: (the decoder's first states, bits, stream without padding)."""
    encoder = tans.Encoder(frequencies, TABLE)
    states = [0] * STATES
    stream = count = 0
    lengths = bit_lengths(y).tolist()
    for i in reversed(range(y.size)):
        token, lane = lengths[i], i % STATES
        states[lane], low, bits = encoder.step(int(contexts[i]), token, states[lane])
        raw = int(y[i]) & ((1 << token) - 1)
        stream |= (raw << bits | low) << count
        count += token + bits
    return states, count, stream.to_bytes(-(-count // 8), "little")


def decode(
    contexts: NDArray[Any], frequencies: NDArray[Any], first: Sequence[int], stream: bytes, bits: int, word: Any
) -> Words | None:
    """The values of a stream; None if it is not one of so many bits."""
    tables = [tans.decoder_rows(row, TABLE) for row in frequencies.tolist()]
    states, position = list(first), bits
    number, modulus = int.from_bytes(stream, "little"), 1 << 8 * np.dtype(word).itemsize
    found = []
    for i, place in enumerate(contexts.tolist()):
        token, size, low = tables[place][states[i % STATES]]
        position -= token + size
        if position < 0:
            return None
        here = number >> position
        states[i % STATES] = low + (here & (1 << size) - 1)
        found.append(((1 << token) + (here >> size & (1 << token) - 1)) % modulus)
    return np.array(found, word) if position == 0 and not any(states) else None
