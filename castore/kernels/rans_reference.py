"""What the coder of tokens in 64 lanes means, in plain Python: slow, and bit for bit the same as `rans_native`.

Its streams are of 16-bit words; lengths are in bits, as those of `tans_reference`, whose frequencies it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from castore.kernels.blocks import RANS_LANES

LEAST = 1 << 16  # that a state is between two tokens: a decoder ends with it


def encode(
    tokens: Sequence[int], contexts: Sequence[int], frequencies: NDArray[Any], size: int
) -> tuple[list[int], bytes, int]:
    """(the decoder's first states, the stream, its bits). A token without a frequency is coded as the last one.

    Backwards: every state begins at LEAST.
    """
    rows = frequencies.tolist()
    states = [LEAST] * RANS_LANES
    words: list[int] = []
    for i in reversed(range(len(tokens))):
        row, state = rows[contexts[i]], states[i % RANS_LANES]
        token = tokens[i] if tokens[i] < len(row) and row[tokens[i]] else len(row) - 1
        if state >= row[token] * (1 << 32) // size:
            words.append(state & 0xFFFF)
            state >>= 16
        states[i % RANS_LANES] = state // row[token] * size + state % row[token] + sum(row[:token])
    return states, b"".join(word.to_bytes(2, "little") for word in reversed(words)), 16 * len(words)


def decode(
    contexts: Sequence[int], frequencies: NDArray[Any], size: int, first: Sequence[int], stream: bytes, length: int
) -> list[int] | None:
    """The tokens of a stream of so many bits; None if they take another number, or states are not LEAST in the end."""
    tables = [[(t, f, n) for t, f in enumerate(row) for n in range(f)] for row in frequencies.tolist()]
    states = list(first)
    position = 0
    tokens = []
    for i, context in enumerate(contexts):
        state = states[i % RANS_LANES]
        token, frequency, within = tables[context][state % size]
        state = frequency * (state // size) + within
        if state < LEAST:
            if position + 2 > len(stream):
                return None
            state = state << 16 | int.from_bytes(stream[position : position + 2], "little")
            position += 2
        states[i % RANS_LANES] = state
        tokens.append(token)
    return tokens if 8 * position == length == 8 * len(stream) and set(states) <= {LEAST} else None
