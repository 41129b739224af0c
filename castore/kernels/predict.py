"""The typed surface of the predictions. Words are the bits of floats, arrays at any address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels.compiling import Kernels, array_type
from castore.kernels.reference import Words

Factors = NDArray[np.float32]


def predict(name: str, bases: Sequence[Words], factors: Factors, out: Words) -> None:
    """Fill `out` [n] with the prediction `name` of `predict_native` from `bases`, [n] each."""
    arguments: list[Any] = [*bases, factors] if factors.size else [*bases]
    _kernel(name, 4)(*arguments, out)


def _signatures(name: str, _width: int) -> tuple[Any, tuple[Any, ...]]:
    from numba import types as t

    from castore.kernels import predict_native as native

    words, factors = array_type(t.uint32), array_type(t.float32)
    out = array_type(t.uint32, writable=True)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "adaptive_step": (native.adaptive_step, (words, words, words, factors, out)),
        "momentum_step": (native.momentum_step, (words, words, factors, out)),
        "second_moment": (native.second_moment, (words, words, words, factors, out)),
        "rounded": (native.rounded, (words, array_type(t.uint16, writable=True))),
    }
    return found[name]


_kernel = Kernels(_signatures)
