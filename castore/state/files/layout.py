"""How a file is cut into segments: the spans that hold a tensor's data, and the plain bytes between them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from castore.dtypes import BYTES, DType
from castore.objects.nodes import Path as TensorPath

Format = Literal["pt", "safetensors", "plain"]


class ForeignContent(Exception):
    """The file is not the container it looks like; the text says why in a few words. Never leaves this package."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a file.

    path: of the tensor in the container; () for plain bytes. shape: in elements of `dtype`.
    offset, nbytes: in the file. kind: "tensor" or "bytes".
    """

    path: TensorPath
    dtype: DType
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    kind: Literal["tensor", "bytes"]


@dataclass(frozen=True, slots=True)
class Layout:
    """A file of `size` bytes as segments that cover it exactly, in order, without gaps, overlaps or empty ones.

    note: why a file that looks like a checkpoint is kept as plain bytes, else "".
    """

    size: int
    format: Format
    note: str
    segments: list[Segment]


def tensor_segment(path: TensorPath, dtype: DType, shape: tuple[int, ...], offset: int) -> Segment:
    """The segment of a contiguous tensor that starts at `offset`."""
    return Segment(path, dtype, shape, offset, math.prod(shape) * dtype.width, "tensor")


def plain_segment(offset: int, nbytes: int) -> Segment:
    """Bytes that no tensor is known to lie in."""
    return Segment((), BYTES, (nbytes,), offset, nbytes, "bytes")


def plain_layout(size: int, note: str = "") -> Layout:
    """A file without structure."""
    return Layout(size, "plain", note, [plain_segment(0, size)] if size else [])


def cover(size: int, format: Format, found: Iterable[Segment]) -> Layout:
    """The layout of a file with these segments: what lies between them becomes plain bytes.

    Empty tensors have no bytes and so no segment. Raises ForeignContent when two segments overlap or one ends
    beyond the file: a container that lies about one tensor is trusted with none.
    """
    segments: list[Segment] = []
    position = 0
    for segment in sorted((item for item in found if item.nbytes), key=lambda item: item.offset):
        if segment.offset < position:
            raise ForeignContent("tensors overlap")
        if segment.offset > position:
            segments.append(plain_segment(position, segment.offset - position))
        segments.append(segment)
        position = segment.offset + segment.nbytes
    if position > size:
        raise ForeignContent("a tensor ends beyond the file")
    if position < size:
        segments.append(plain_segment(position, size - position))
    return Layout(size, format, "", segments)
