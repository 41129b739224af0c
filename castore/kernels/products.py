"""The typed surface of products of matrices, in float32 or float64, by one thread."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from castore.kernels import scratch
from castore.kernels.compiling import Kernels, array_type

_PANEL = 64  # products_native's, known here without importing Numba

Kind = TypeVar("Kind", np.float32, np.float64)


def times(left: NDArray[Kind], right: NDArray[Kind], out: NDArray[Kind] | None = None) -> NDArray[Kind]:
    """left [rows, inner] @ right [inner, columns], C-contiguous all of them; into `out` [rows, columns] if given."""
    (rows, inner), columns = left.shape, right.shape[1]
    if out is None:
        out = np.empty((rows, columns), left.dtype)
    panel = scratch.array("panel", (inner + 1) * _PANEL, left.dtype)
    _kernel("times", left.itemsize)(left.reshape(-1), right.reshape(-1), rows, inner, columns, panel, out.reshape(-1))
    return out


def turned_times(left: NDArray[Kind], right: NDArray[Kind]) -> NDArray[Kind]:
    """left [inner, rows].T @ right [inner, columns], C-contiguous both."""
    (inner, rows), columns = left.shape, right.shape[1]
    out, panel = np.empty((rows, columns), left.dtype), scratch.array("panel", (inner + 1) * _PANEL, left.dtype)
    run = _kernel("turned_times", left.itemsize)
    run(left.reshape(-1), right.reshape(-1), inner, rows, columns, panel, out.reshape(-1))
    return out


def _signatures(name: str, width: int) -> tuple[Any, tuple[Any, ...]]:
    from numba import types as t

    from castore.kernels import products_native as native

    kind = {4: t.float32, 8: t.float64}[width]
    numbers, out = array_type(kind), array_type(kind, writable=True)
    function = {"times": native.times, "turned_times": native.turned_times}[name]
    return function, (numbers, numbers, t.int64, t.int64, t.int64, out, out)


_kernel = Kernels(_signatures)
