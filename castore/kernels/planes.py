"""The typed surface of the kernels: split words into byte planes, join them, measure their entropy.

A process starts with the NumPy reference, which gives the same bytes, and turns to the compiled kernel once that
has seen enough bytes to pay for loading Numba and perhaps for a first compilation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import reference
from castore.kernels.compiling import array_type, compile_kernel
from castore.kernels.reference import Bytes, Transform, Words

COMPILE_BYTES = 256 * 1024  # what one kernel may be asked for in a process before it is loaded
MAX_SAMPLE = 4096  # bytes of one plane that `entropies` takes
_LANES = 32  # native.LANES, known here without importing Numba

_ready: dict[tuple[str, int], Any] = {}  # (kernel, word bytes) -> dispatcher, compiled
_asked: Counter[tuple[str, int]] = Counter()  # bytes that the reference has done instead; a lost update does no harm


def split(transform: Transform, words: Words, base: Words | None, planes: Bytes) -> None:
    """Write the planes of `words` [n] into `planes` [word bytes, n], rows contiguous and equally far apart.

    `base` [n] is read by XOR and SUB only. Words are unsigned integers of 1, 2, 4 or 8 bytes, at any address.
    """
    count, width = words.size, words.itemsize
    if base is not None and base.size != count:
        raise ValueError(f"base has {base.size} words, not {count}")
    if planes.shape != (width, count) or (count > 1 and planes.strides[1] != 1):
        raise ValueError(f"planes {planes.shape} do not fit {count} words of {width} bytes")
    kernel = _kernel(f"split_{transform.name.lower()}", words) if count >= _LANES else None
    if kernel is None:
        reference.split(transform, words, base, planes)
        return
    stride = planes.strides[0]
    if transform is Transform.PLAIN or transform is Transform.ROTATE:
        kernel(words, planes, stride)
    else:
        kernel(words, base, planes, stride)


def join(transform: Transform, planes: Sequence[Bytes], out: Words) -> None:
    """The inverse of `split`: `out` [n] becomes the words; for XOR and SUB it holds the base's on entry.

    `planes`: one contiguous array of n bytes per byte of a word; they may lie anywhere, and be read-only.
    """
    if len(planes) != out.itemsize or any(plane.shape != out.shape for plane in planes):
        raise ValueError(f"{len(planes)} planes do not fit {out.size} words of {out.itemsize} bytes")
    kernel = _kernel(f"join_{transform.name.lower()}", out)
    if kernel is None:
        reference.join(transform, planes, out)
    else:
        kernel(out, *planes, *[planes[0]] * (8 - out.itemsize))


def entropies(planes: Bytes) -> list[float]:
    """The order-0 entropy of each row of `planes` [k, m], C-contiguous, 0 < m <= MAX_SAMPLE, in bits a byte.

    Corrected for the size of the sample; exactly 0.0 for a constant row.
    """
    rows, size = planes.shape
    if not 0 < size <= MAX_SAMPLE:
        raise ValueError(f"sample of {size} bytes a plane, not 1 to {MAX_SAMPLE}")
    kernel = _kernel("entropies", planes)
    if kernel is None:
        bits = reference.entropies(planes)
    else:
        bits = np.empty(rows)
        kernel(planes, _n_log_n(), np.empty((4, 256), np.uint32), bits)
    values: list[float] = bits.tolist()
    return values


@cache
def _n_log_n() -> NDArray[np.float64]:
    sizes = np.arange(MAX_SAMPLE + 1, dtype=np.float64)
    return sizes * np.log2(np.maximum(sizes, 1.0))


def _kernel(name: str, data: NDArray[Any]) -> Any:
    width = data.itemsize
    ready = _ready.get((name, width))
    if ready is not None:
        return ready
    return _load(name, width) if _pays(name, data) else None


def _pays(name: str, data: NDArray[Any]) -> bool:
    """Whether to load, and perhaps compile, a kernel for `data`."""
    if name == "entropies":  # of planes that a kernel has split, then; the chunk's size does not show in the sample's
        return any(ready.startswith("split") for ready, _ in _ready)
    if data.itemsize == 1:
        return False  # over single bytes NumPy's own loops are as fast
    _asked[name, data.itemsize] += data.nbytes
    return _asked[name, data.itemsize] >= COMPILE_BYTES


def _load(name: str, width: int) -> Any:
    from numba import types

    from castore.kernels import native

    word = {1: types.uint8, 2: types.uint16, 4: types.uint32, 8: types.uint64}[width]
    plane, rows = array_type(types.uint8), array_type(types.uint8, 2, writable=True, layout="A")
    floats = array_type(types.float64, writable=True)
    signature = {
        "split_plain": (array_type(word), rows, types.intp),
        "split_rotate": (array_type(word), rows, types.intp),
        "split_xor": (array_type(word), array_type(word), rows, types.intp),
        "split_sub": (array_type(word), array_type(word), rows, types.intp),
        "entropies": (array_type(types.uint8, 2), floats, array_type(types.uint32, 2, writable=True), floats),
    }.get(name, (array_type(word, writable=True), *[plane] * 8))
    dispatcher = getattr(native, name)
    compile_kernel(dispatcher, signature)
    _ready[name, width] = dispatcher
    return dispatcher
