"""Where the bytes of a state's tensors come from: read in place where contiguous on the CPU, else copied by pieces."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from castore import dtypes
from castore.objects import nodes
from castore.objects.nodes import Path
from castore.state.live.elements import swapped

_EMPTY = memoryview(b"")
# What NumPy has under a format that memoryview can cast
_NUMPY_READS = frozenset(
    (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64, torch.bool)
)
_FEW_DIMS = 16  # NumPy and memoryview allow fewer than torch
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class TensorSource(ABC):
    """The bytes of one `nodes.Tensor` of a flattened state.

    path: where it lies. entry: its node, `chunks` still empty. numel: elements of `entry.dtype`. width: bytes of one.
    """

    __slots__ = ("_whole", "entry", "numel", "path", "width")

    def __init__(self, path: Path, entry: nodes.Tensor) -> None:
        self.path = path
        self.entry = entry
        self.numel = math.prod(entry.shape)
        self.width = dtypes.BY_NAME[entry.dtype].width
        self._whole: memoryview | None = None

    @property
    def nbytes(self) -> int:
        return self.numel * self.width

    def span(self, first: int, last: int) -> memoryview:
        """The little-endian bytes of elements [first, last), in C order.

        A view of the tensor's own memory where that is contiguous on the CPU: it changes when the tensor does, and
        must not be written. Else a copy of just these elements, so the caller's spans bound the memory.
        Safe to call from several threads.
        """
        if not 0 <= first <= last <= self.numel:
            raise IndexError(f"span [{first}, {last}) of a tensor of {self.numel} elements")
        if first == last:
            return _EMPTY
        whole = self._whole
        if whole is None:
            whole = self._view()
            if whole is None:
                return self._copy(first, last)
            self._whole = whole  # threads that race here store equal views
        return whole[first * self.width : last * self.width]

    @abstractmethod
    def _view(self) -> memoryview | None:
        """All bytes without a copy, or None where they don't lie in order on the CPU."""

    @abstractmethod
    def _copy(self, first: int, last: int) -> memoryview:
        """A copy of the bytes of elements [first, last)."""


def tensor_bytes(tensor: torch.Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor of any dtype, without a copy."""
    if tensor.numel() == 0:
        return _EMPTY
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype in _NUMPY_READS and tensor.dim() <= _FEW_DIMS:
        return tensor.numpy().data.cast("B")  # the same as below, in a third of the time
    # Not reshape(-1): it keeps whatever stride a dimension of one element has, and view() then refuses.
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8).numpy().data


def array_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    """The memory of a C-contiguous array, without a copy."""
    if array.nbytes == 0:
        return _EMPTY
    return array.reshape(-1).view(np.uint8).data


def pieces(shape: tuple[int, ...], first: int, last: int) -> Iterator[tuple[tuple[int | slice, ...], int]]:
    """Elements [first, last) of an array in C order as at most two pieces a dimension: (index, number of elements)."""
    if not shape:
        if first < last:
            yield (), 1
        return
    row = math.prod(shape[1:])
    start, head = divmod(first, row)
    stop, tail = divmod(last, row)
    if head:
        end = min(row, head + last - first)
        for index, count in pieces(shape[1:], head, end):
            yield (start, *index), count
        start += 1
        if end < row:
            return
    if start < stop:
        yield (slice(start, stop),), (stop - start) * row
    if tail:
        for index, count in pieces(shape[1:], 0, tail):
            yield (stop, *index), count


class TorchSource(TensorSource):
    """A dense torch tensor on any device, with any strides, conjugate and negative bits included."""

    __slots__ = ("tensor",)

    def __init__(self, path: Path, entry: nodes.Tensor, tensor: torch.Tensor) -> None:
        super().__init__(path, entry)
        self.tensor = tensor

    def _view(self) -> memoryview | None:
        tensor = self.tensor
        if tensor.device.type != "cpu" or not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
            return None
        return tensor_bytes(tensor)

    def _copy(self, first: int, last: int) -> memoryview:
        tensor = self.tensor.detach()
        if not tensor.is_conj() and not tensor.is_neg() and self.width in _WORDS:
            tensor = tensor.view(_WORDS[self.width])  # copies of plain words exist for every dtype on every device
            if tensor.is_contiguous():
                return tensor_bytes(tensor.as_strided((self.numel,), (1,), tensor.storage_offset())[first:last].cpu())
        out = torch.empty(last - first, dtype=tensor.dtype, device=tensor.device)
        done = 0
        for index, count in pieces(tuple(tensor.shape), first, last):
            piece = tensor[index] if index else tensor
            out[done : done + count].view(piece.shape).copy_(piece)
            done += count
        return tensor_bytes(out.cpu())


class ArraySource(TensorSource):
    """A NumPy array, with any strides and byte order."""

    __slots__ = ("_array",)

    def __init__(self, path: Path, entry: nodes.Tensor, array: np.ndarray[Any, Any]) -> None:
        super().__init__(path, entry)
        self._array = array

    def _view(self) -> memoryview | None:
        if not self._array.flags.c_contiguous or swapped(self._array.dtype):
            return None
        return array_bytes(self._array)

    def _copy(self, first: int, last: int) -> memoryview:
        array = self._array
        # Items without a named dtype are `per_item` bytes each: a span may begin and end within one.
        per_item = array.dtype.itemsize // self.width
        start, stop = first // per_item, -(-last // per_item)
        out = np.zeros(stop - start, dtype=array.dtype)  # zeros, so that the padding of records is the same each time
        done = 0
        for index, count in pieces(array.shape, start, stop):
            out[done : done + count].reshape(array[index].shape)[...] = array[index]
            done += count
        if swapped(out.dtype):
            out.byteswap(inplace=True)
        begin = (first - start * per_item) * self.width
        return array_bytes(out)[begin : begin + (last - first) * self.width]


class BytesSource(TensorSource):
    """A long `bytes` or `bytearray`, kept in chunks like a tensor."""

    __slots__ = ("_data",)

    def __init__(self, path: Path, entry: nodes.Tensor, data: bytes | bytearray) -> None:
        super().__init__(path, entry)
        self._data = data

    def _view(self) -> memoryview | None:
        return memoryview(self._data).toreadonly()

    def _copy(self, first: int, last: int) -> memoryview:
        raise AssertionError("bytes always lie in order")
