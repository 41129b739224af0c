"""Where committed bytes come from: a live state's memory, or files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from castore.chunks import content
from castore.objects import nodes
from castore.state.files.layout import Segment
from castore.state.files.source import FileSource

if TYPE_CHECKING:
    from castore.state.live.sources import TensorSource


class Source(Protocol):
    """The bytes of one tensor-to-be of a tree.

    path: where it lies. in_file: how many parts of the path name a file, 0 for a state. entry: its node, whose `chunks`
    are set here. cuts: (offset, length) of each chunk, in bytes.
    """

    @property
    def path(self) -> nodes.Path: ...
    @property
    def in_file(self) -> int: ...
    @property
    def entry(self) -> nodes.Tensor: ...
    @property
    def nbytes(self) -> int: ...
    def cuts(self, chunk_elements: int) -> Iterator[tuple[int, int]]: ...
    def read(self, offset: int, length: int) -> memoryview: ...


def fixed_cuts(nbytes: int, width: int, chunk_elements: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of chunks of a fixed number of elements, from the start of a tensor."""
    step = chunk_elements * width
    for offset in range(0, nbytes, step):
        yield offset, min(step, nbytes - offset)


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A tensor or array in memory."""

    tensor: TensorSource
    in_file: int = 0

    @property
    def path(self) -> nodes.Path:
        return self.tensor.path

    @property
    def entry(self) -> nodes.Tensor:
        return self.tensor.entry

    @property
    def nbytes(self) -> int:
        return self.tensor.nbytes

    def cuts(self, chunk_elements: int) -> Iterator[tuple[int, int]]:
        return fixed_cuts(self.nbytes, self.tensor.width, chunk_elements)

    def read(self, offset: int, length: int) -> memoryview:
        width = self.tensor.width
        return self.tensor.span(offset // width, (offset + length) // width)


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """A segment of a file: a tensor's data, cut like one; or plain bytes, cut where their content says."""

    file: FileSource
    segment: Segment
    path: nodes.Path
    in_file: int
    entry: nodes.Tensor

    @property
    def nbytes(self) -> int:
        return self.segment.nbytes

    def cuts(self, chunk_elements: int) -> Iterator[tuple[int, int]]:
        if self.segment.kind == "tensor":
            return fixed_cuts(self.nbytes, self.segment.dtype.width, chunk_elements)
        start = self.segment.offset
        return content.cut(lambda offset, length: self.file.span(start + offset, length), self.nbytes)

    def read(self, offset: int, length: int) -> memoryview:
        return memoryview(self.file.span(self.segment.offset + offset, length))
