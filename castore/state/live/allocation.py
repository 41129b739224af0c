"""Memory for the tensors of a tree, and the values it becomes once it is filled. Nothing here trusts the tree."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from castore import dtypes
from castore.errors import CorruptError, StateError
from castore.limits import MAX_CHUNK_BYTES, MAX_CHUNKS_PER_TENSOR, MAX_TENSOR_DIMS
from castore.objects import nodes
from castore.objects.nodes import Path
from castore.state.live import huge_pages
from castore.state.live.elements import numpy_dtype, swapped, torch_dtype
from castore.state.live.refusals import shown
from castore.state.live.sources import array_bytes, tensor_bytes

Memory = torch.Tensor | np.ndarray[Any, Any] | bytearray

TORCH_KINDS = frozenset({"tensor", "parameter", "buffer", "transient_buffer"})
_SHORTEST_ID = 16  # bytes of a chunk id


def allocate(entry: nodes.Tensor, path: Path) -> Memory:
    """Uninitialised memory for `entry` on the CPU.

    Raises CorruptError where its shape or dtype makes no sense, StateError where the machine has not so much.
    """
    _check_size(entry, path)
    try:
        if entry.kind in TORCH_KINDS:
            memory = torch.empty(entry.shape, dtype=torch_dtype(entry.dtype), device="cpu")
            huge_pages.advise(memory.data_ptr(), memory.nbytes)
            return memory
        if entry.kind == "array":
            return _array(entry, path)
        if entry.kind in ("bytes", "bytearray") and entry.dtype == "bytes" and len(entry.shape) == 1:
            return bytearray(entry.shape[0])
    except (MemoryError, RuntimeError) as error:  # torch has no class for it
        raise StateError(
            f"{shown(path)}: no memory for {entry.dtype}{list(entry.shape)}; load less of it with only (--only)"
        ) from error
    raise CorruptError(
        f"{shown(path)}: unknown kind of tensor {entry.kind!r}: a newer castore wrote it, or it is damaged"
    )


def writable(memory: Memory) -> memoryview:
    """All bytes of it."""
    if isinstance(memory, torch.Tensor):
        return tensor_bytes(memory)
    return array_bytes(memory) if isinstance(memory, np.ndarray) else memoryview(memory)


def finished(entry: nodes.Tensor, memory: Memory, device: torch.device | None) -> Any:
    """The value that filled memory is: torch tensors moved to `device`, the others as they were."""
    if isinstance(memory, torch.Tensor):
        return dressed(memory if device is None else memory.to(device), entry.kind, entry.requires_grad)
    if isinstance(memory, np.ndarray):
        return memory.byteswap(inplace=True) if swapped(memory.dtype) else memory
    return bytes(memory) if entry.kind == "bytes" else memory


def dressed(tensor: torch.Tensor, kind: str, requires_grad: bool) -> torch.Tensor:
    """`tensor` as a parameter, buffer or plain tensor. Raises RuntimeError where its dtype has no gradient."""
    if kind == "parameter":
        return torch.nn.Parameter(tensor, requires_grad)
    if kind in ("buffer", "transient_buffer"):
        # What torch.nn.Buffer (torch 2.5) makes of a tensor; set by hand so that torch 2.4 takes it as well.
        tensor.persistent = kind == "buffer"  # type: ignore[attr-defined]
        tensor._is_buffer = True  # type: ignore[attr-defined]
    return tensor.requires_grad_() if requires_grad else tensor


def look(view: nodes.View, base: torch.Tensor, path: Path) -> torch.Tensor:
    """The tensor that `view` is of `base`'s memory. Raises CorruptError where it would reach beyond it."""
    dtype = torch_dtype(view.dtype)
    _check_shape(view.shape, path)
    fits = view.kind in TORCH_KINDS and len(view.stride) == len(view.shape)
    fits = (
        fits
        and view.offset >= 0
        and view.offset % dtype.itemsize == 0
        and all(0 <= step < 1 << 62 for step in view.stride)
    )
    if fits:
        reach = sum((size - 1) * step for size, step in zip(view.shape, view.stride, strict=True)) + 1
        end = view.offset + (reach * dtype.itemsize if math.prod(view.shape) else 0)
        fits = end <= base.numel() * base.element_size()
    if not fits:
        raise CorruptError(f"{shown(path)}: a view beyond the memory it shares: the tree is damaged")
    found = torch.empty(0, dtype=dtype, device=base.device)
    with torch.no_grad():
        found.set_(base.untyped_storage(), view.offset // dtype.itemsize, view.shape, view.stride)
    return found


def _check_shape(shape: tuple[int, ...], path: Path) -> int:
    """The number of elements of a shape that makes sense."""
    numel = math.prod(shape)
    if shape and (
        min(shape) < 0
        or len(shape) > MAX_TENSOR_DIMS
        or (numel or math.prod(size or 1 for size in shape)) >> 62  # strides of empty tensors overflow too
    ):
        raise CorruptError(f"{shown(path)}: impossible shape {shape}: the tree is damaged")
    return numel


def _check_size(entry: nodes.Tensor, path: Path) -> None:
    """Allocate no more than the tensor's chunks can hold."""
    raw_bytes = _check_shape(entry.shape, path) * dtypes.by_name(entry.dtype).width
    chunks = len(entry.chunks) // _SHORTEST_ID if entry.chunks else MAX_CHUNKS_PER_TENSOR
    if raw_bytes > chunks * MAX_CHUNK_BYTES:
        raise CorruptError(f"{shown(path)}: {raw_bytes} bytes in {chunks} chunks: the tree is damaged")


def _array(entry: nodes.Tensor, path: Path) -> np.ndarray[Any, Any]:
    dtype, shape = numpy_dtype(entry.dtype, entry.numpy_dtype), entry.shape
    if entry.dtype == "bytes":
        if not shape or shape[-1] != dtype.itemsize:
            raise CorruptError(f"{shown(path)}: items of {dtype} in {shape} bytes: the tree is damaged")
        shape = shape[:-1]
    try:
        return np.empty(shape, dtype)
    except ValueError as error:  # more dimensions than this NumPy has
        raise CorruptError(f"{shown(path)}: cannot make an array of shape {shape}: {error}") from None
