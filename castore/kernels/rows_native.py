"""A matrix of floats against an older one, in Numba: how far each row and each column moved, and what these foretell.

Words are bits of floats, whose order is that of the numbers where they are not negative; a move is a difference of
words, in units of 2**UNIT_BITS of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from castore.kernels.bits import U
from castore.kernels.compiling import kernel, step

UNIT_BITS = 15  # of a float32: 1/256 of a doubling
_MOST_ROW, _MOST_COLUMN = 512, 64  # a value that moved further counts as this far: a few must not move all others

_HALF = np.int32(1 << (UNIT_BITS - 1))


@step
def _move(new: Any, old: Any) -> Any:
    return np.int32(np.int32(np.int32(new - old) + _HALF) >> np.int32(UNIT_BITS))


@step
def _clipped(value: Any, most: Any) -> Any:
    value = value if value < most else most
    return np.int32(value if value > -most else -most)


@step
def _larger(most: Any, value: Any) -> Any:
    value = np.int32(value if value >= np.int32(0) else -value)
    return value if value > most else most


@step
def _mean(total: Any, count: Any) -> Any:
    """To the nearest; count > 0."""
    count = np.int64(count)
    return np.int32((2 * np.int64(total) + count) // (2 * count))


@kernel
def fit(words: Any, base: Any, width: Any, phase: Any, rows: Any, columns: Any) -> Any:
    """The means of moves: rows [k] of each row's, columns [width] of what is left of each column's. The largest of all.

    width: words in a row. phase: the column of the first word, below `width`. Rows: those that words [n] touch.
    """
    for j in range(U(width)):
        columns[j] = np.int32(0)
    at, first = U(0), U(phase)
    largest = np.int32(0)
    for k in range(U(rows.size)):
        count = U(width) - first
        if count > U(words.size) - at:
            count = U(words.size) - at
        total = np.int32(0)
        for i in range(count):
            total = np.int32(total + _clipped(_move(words[at + i], base[at + i]), np.int32(_MOST_ROW)))
        mean = _mean(total, count)
        rows[k] = mean
        largest = _larger(largest, mean)
        for i in range(count):
            rest = np.int32(_move(words[at + i], base[at + i]) - mean)
            columns[first + i] = np.int32(columns[first + i] + _clipped(rest, np.int32(_MOST_COLUMN)))
        at += count
        first = U(0)
    end = (U(phase) + U(words.size)) % U(width)  # the column behind the last word's
    for j in range(U(width)):
        count = U(rows.size)
        if j < U(phase):
            count -= U(1)
        if end != U(0) and j >= end:
            count -= U(1)
        columns[j] = _mean(columns[j], count) if count > U(0) else np.int32(0)
        largest = _larger(largest, columns[j])
    return largest


@kernel
def predict(base: Any, width: Any, phase: Any, shift: Any, rows: Any, columns: Any, moves: Any, out: Any) -> None:
    """out [n]: a word of the base, moved by (its row + its column) << shift; 0 for 0, and for what gets negative.

    rows [k], columns [width]: signed bytes. moves [width]: scratch.
    """
    for j in range(U(width)):
        moves[j] = np.uint32(np.int32(columns[j]) << np.int32(shift))
    at, first = U(0), U(phase)
    for k in range(U(rows.size)):
        count = U(width) - first
        if count > U(out.size) - at:
            count = U(out.size) - at
        move = np.uint32(np.int32(rows[k]) << np.int32(shift))
        for i in range(count):
            old = base[at + i]
            new = np.uint32(np.uint32(old + move) + moves[first + i])
            out[at + i] = np.uint32(0) if old == np.uint32(0) or np.int32(new) < np.int32(0) else new
        at += count
        first = U(0)
