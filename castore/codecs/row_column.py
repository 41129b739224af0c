"""Predictor 5 of codec 8: a matrix some steps later, whose rows and columns moved by an amount of their own each.

So does an optimizer's second moment: a parameter's gradients are about as large as those of its row times those of its
column (Shazeer and Stern, 2018), and the logarithm of a float is about its bits.

What stands in the payload where other predictors have their factors, of which it has none:

    offset  bytes  field
    2       1      shift, at most MOST_SHIFT
    3       4      width: words in a row
    7       4      phase: the column of the chunk's first word
    11      k      moves of the k rows that the chunk touches, signed
    ...     width  moves of the columns, signed

A word of the base is moved by (its row's + its column's) << shift, modulo 2**32; it becomes 0 where that sets its
highest bit, and stays 0 where it is. Sizes are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from castore.errors import CorruptError
from castore.kernels import rows as kernels
from castore.kernels.reference import Words

MOST_SHIFT = 23
MOST_COLUMNS = 1 / 8  # of a chunk's words: with fewer rows a column's move says little
_HEADER = struct.Struct("<BII")


@dataclass(frozen=True, slots=True)
class Rows:
    """How a chunk lies in its matrix. width: words in a row. phase: the column of the chunk's first word."""

    width: int
    phase: int


def fit(words: Words, base: Words, rows: Rows, out: Words) -> bytes:
    """Fill `out` [n] with the prediction for words [n] from base [n], n > 0. Returns what is needed to do so again."""
    shift, by_row, by_column = kernels.fit(words, base, rows.width, rows.phase)
    kernels.predict(base, rows.width, rows.phase, shift, by_row, by_column, out)
    return b"".join((_HEADER.pack(shift, rows.width, rows.phase), by_row.tobytes(), by_column.tobytes()))


def predict(view: memoryview, base: Words, out: Words) -> int:
    """Fill `out` [n] with the prediction from base [n], by what `fit` returned and `view` begins with.

    Returns the length of that. Raises CorruptError for what is none.
    """
    if len(view) < _HEADER.size:
        raise CorruptError("predicted record ends within its header")
    shift, width, phase = _HEADER.unpack_from(view)
    if shift > MOST_SHIFT or phase >= width:
        raise CorruptError("predicted record's rows make no sense")
    columns_at = _HEADER.size + kernels.count(out.size, width, phase)
    end = columns_at + width
    if len(view) < end:
        raise CorruptError("predicted record ends within its rows and columns")
    by_row = np.frombuffer(view[_HEADER.size : columns_at], np.int8)
    kernels.predict(base, width, phase, shift, by_row, np.frombuffer(view[columns_at:end], np.int8), out)
    return int(end)
