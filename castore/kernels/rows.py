"""The typed surface of what rows and columns of a matrix foretell. Words are float32's bits, arrays at any address."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.compiling import Kernels, array_type
from castore.kernels.reference import Words

UNIT_BITS = 15  # rows_native's, known here without importing Numba

Moves = NDArray[np.int8]


def count(words: int, width: int, phase: int) -> int:
    """How many rows of `width` so many words touch, the first of them in column `phase`."""
    return -(-(phase + words) // width)


def fit(words: Words, base: Words, width: int, phase: int) -> tuple[int, Moves, Moves]:
    """(shift, rows, columns) that foretell `words` [n] of `base` [n] best, see `predict`; n > 0."""
    rows = np.empty(count(words.size, width, phase), np.int32)
    columns = np.empty(width, np.int32)
    shift = UNIT_BITS
    largest = int(_kernel("fit", 4)(words, base, width, phase, rows, columns))
    while largest > 127:
        rows, columns = (rows + 1) >> 1, (columns + 1) >> 1
        largest, shift = (largest + 1) >> 1, shift + 1
    return shift, rows.astype(np.int8), columns.astype(np.int8)


def predict(base: Words, width: int, phase: int, shift: int, rows: Moves, columns: Moves, out: Words) -> None:
    """Fill `out` [n] with the prediction from base [n], rows [count(n, width, phase)] and columns [width]."""
    moves = scratch.array("moves", width, np.uint32)
    _kernel("predict", 4)(base, width, phase, shift, rows, columns, moves, out)


def _signatures(name: str, _width: int) -> tuple[Any, tuple[Any, ...]]:
    from numba import types as t

    from castore.kernels import rows_native as native

    n, words, out = t.int64, array_type(t.uint32), array_type(t.uint32, writable=True)
    means, moves = array_type(t.int32, writable=True), array_type(t.int8)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "fit": (native.fit, (words, words, n, n, means, means)),
        "predict": (native.predict, (words, n, n, n, moves, moves, out, out)),
    }
    return found[name]


_kernel = Kernels(_signatures)
