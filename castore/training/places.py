"""Where a tensor's copies lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from castore.state.live.sources import TensorSource
from castore.training.arena import Segment
from castore.training.job import Known


@dataclass(slots=True)
class Lot:
    """A tensor's places: where each begins in its segment, one or two.

    last: for each chunk, which place its newest copy is in. anchor: the id of what lies in `held`, which no copy may
    overwrite; b"" for none. seen: what the newest copy was taken of. whole: each place as a tensor like the source,
    once one was copied there. known: what there is of anchors, until that changes.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    chunk_bytes: int
    segment: Segment
    places: tuple[int, ...]
    last: list[int]
    held: list[int]
    anchor: list[bytes]
    seen: tuple[int, int] | None = None
    whole: dict[int, torch.Tensor] = field(default_factory=dict)
    known: list[Known] | None = None

    def at(self, chunk: int, which: int) -> int:
        return self.places[which] + chunk * self.chunk_bytes

    def length(self, chunk: int) -> int:
        return min(self.chunk_bytes, self.nbytes - chunk * self.chunk_bytes)

    def anchors(self) -> list[Known]:
        if self.known is None:
            self.known = [
                Known(anchor, self.segment.number, self.at(chunk, self.held[chunk]), self.length(chunk))
                for chunk, anchor in enumerate(self.anchor)
                if anchor
            ]
        return self.known

    def fits(self, source: TensorSource | None) -> bool:
        return source is not None and (self.dtype, self.shape) == (source.entry.dtype, source.entry.shape)

    def runs(self) -> list[tuple[int, int, int]]:
        """(first byte, last byte, offset) of stretches of a tensor whose newest copies lie in the same place."""
        if self.last.count(self.last[0]) == len(self.last):
            return [(0, self.nbytes, self.at(0, self.last[0]))]
        runs: list[tuple[int, int, int]] = []
        start = 0
        for chunk in range(1, len(self.last) + 1):
            if chunk == len(self.last) or self.last[chunk] != self.last[start]:
                first, last = start * self.chunk_bytes, min(chunk * self.chunk_bytes, self.nbytes)
                runs.append((first, last, self.at(start, self.last[start])))
                start = chunk
        return runs
