"""What the coder of tokens means, in plain Python: slow, and bit for bit the same as `tans_native`.

A context is a row of frequencies, which sum to the size of its table. A stream is a number of bits, read from the
lowest bit of its first byte up: a decoder starts somewhere in that byte and ends with the last bit of the last one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

LANES = 4  # states that take turns

Row = tuple[int, int, int]  # of a decoder: token, bits read for the next state, next state less what is read


def normalised(counts: Sequence[int], size: int) -> list[int]:
    """Frequencies that sum to `size`: at least 1 for what was counted and for the last token, 0 for others."""
    total = sum(counts)
    if total == 0:
        return [0] * (len(counts) - 1) + [size]
    shares = [max(count * size // total, 1) if count else 0 for count in counts]
    shares[-1] = max(shares[-1], 1)
    while (left := size - sum(shares)) != 0:
        if left > 0:
            gains = {t: (counts[t] + 0.01) / (share + 0.5) for t, share in enumerate(shares) if share}
        else:
            gains = {t: (share - 0.5) / (counts[t] + 0.01) for t, share in enumerate(shares) if share > 1}
        best = max(gains, key=lambda token: gains[token])  # the first of equals
        shares[best] += 1 if left > 0 else -1
    return shares


def spread(frequencies: Sequence[int], size: int) -> list[int]:
    """Which token each state of a context stands for: steps that visit all states once."""
    tokens = [0] * size
    position = 0
    for token, frequency in enumerate(frequencies):
        for _ in range(frequency):
            tokens[position] = token
            position = (position + size // 2 + size // 8 + 3) % size
    return tokens


def decoder_rows(frequencies: Sequence[int], size: int) -> list[Row]:
    """The row of each state of a context."""
    upcoming = list(frequencies)
    rows = []
    for token in spread(frequencies, size):
        x = upcoming[token]
        upcoming[token] += 1
        bits = size.bit_length() - x.bit_length()
        rows.append((token, bits, (x << bits) - size))
    return rows


class Encoder:
    """The states from which a decoder gets to a given one: each token leads to every state from just one of its own."""

    def __init__(self, frequencies: NDArray[Any], size: int) -> None:
        self._before: dict[tuple[int, int], list[tuple[int, ...]]] = {}  # low, bits, the state before
        for context, row in enumerate(frequencies.tolist()):
            for state, (token, bits, low) in enumerate(decoder_rows(row, size)):
                self._before.setdefault((context, token), []).append((low, bits, state))
        for rows in self._before.values():
            rows.sort()
        self._size = size

    def has(self, context: int, token: int) -> bool:
        return (context, token) in self._before

    def step(self, context: int, token: int, state: int) -> tuple[int, int, int]:
        """(the state before, the bits that lead from there to `state`, how many)."""
        rows = self._before[context, token]
        low, bits, before = rows[bisect_left(rows, (state, self._size)) - 1]
        return before, state - low, bits


def encode(
    tokens: Sequence[int], contexts: Sequence[int], frequencies: NDArray[Any], size: int
) -> tuple[list[int], bytes, int]:
    """(the decoder's first states, the stream, its bits). A token without a frequency is coded as the last one.

    Backwards: every state begins at 0, which is what the decoder must find in the end.
    """
    encoder = Encoder(frequencies, size)
    last = frequencies.shape[1] - 1
    states = [0] * LANES
    stream = length = 0
    for i in reversed(range(len(tokens))):
        token = tokens[i] if encoder.has(contexts[i], tokens[i]) else last
        states[i % LANES], value, bits = encoder.step(contexts[i], token, states[i % LANES])
        stream = stream << bits | value
        length += bits
    end = -(-length // 8)
    return states, (stream << (8 * end - length)).to_bytes(end, "little"), length


def decode(
    contexts: Sequence[int], frequencies: NDArray[Any], size: int, first: Sequence[int], stream: bytes, length: int
) -> list[int] | None:
    """The tokens of a stream of so many bits; None if they take another number, or states are not 0 in the end."""
    tables = [decoder_rows(row, size) for row in frequencies.tolist()]
    states = list(first)
    position, end = -length % 8, 8 * len(stream)
    number = int.from_bytes(stream, "little")
    tokens = []
    for i, context in enumerate(contexts):
        token, bits, low = tables[context][states[i % LANES]]
        states[i % LANES] = low + (number >> position & (1 << bits) - 1)
        position += bits
        if position > end:
            return None
        tokens.append(token)
    return tokens if position == end and not any(states) else None
