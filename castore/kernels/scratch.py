"""Memory that each thread keeps between kernels: fresh pages cost more than what is done in them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class _Kept(threading.local):
    def __init__(self) -> None:
        self.arrays: dict[tuple[str, Any], NDArray[Any]] = {}


_kept = _Kept()


def array(name: str, size: int, dtype: Any) -> NDArray[Any]:
    """This thread's array of a name, uninitialised: what it held before is gone. A chunk large at most, and a bit."""
    key = name, dtype
    found = _kept.arrays.get(key)
    if found is None or found.size < size:
        found = _kept.arrays[key] = np.empty(size + size // 4, dtype)  # what comes next is often a little larger
    return found[:size]
