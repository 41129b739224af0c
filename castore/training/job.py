"""One commit as it goes from the loop to whoever makes it: nodes, where the bytes lie, what to say of it.

This module and what it imports load no torch, since the process that makes commits has no use for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from castore.objects import nodes
from castore.objects.commit import Commit
from castore.operations.commit import commit_flat
from castore.operations.details import Details
from castore.operations.effort import worthwhile
from castore.repo import Repository


class Pending(Protocol):
    """Copies that were begun."""

    def wait(self) -> None:
        """Return when they are done. From any thread."""
        ...


class Staged(NamedTuple):
    """A tensor's copy. segment: which one it lies in. offsets: of each of its chunks there, each but the last of
    `chunk_bytes`. A tuple, since hundreds of them travel with each job."""

    nbytes: int
    chunk_bytes: int
    segment: int
    offsets: tuple[int, ...]


class Known(NamedTuple):
    """The raw bytes of a chunk of an earlier commit that still lie in a segment."""

    id: bytes
    segment: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A commit to make. staged: the copy of each tensor of `root`, in the order of `nodes.tensors`. segments: number
    and size of those it needs. effort: see `operations.effort`."""

    root: nodes.Node
    staged: tuple[Staged, ...]
    known: tuple[Known, ...]
    segments: tuple[tuple[int, int], ...]
    branch: str
    details: Details
    effort: str


@dataclass(frozen=True, slots=True)
class Done:
    """A commit that was made. chunks: the ids of each staged tensor's chunks, as in its node. anchors: see `Committed`.

    seconds: how long it took beside the loop. new_bytes: what its packs take on disk.
    """

    commit: Commit
    new_bytes: int
    seconds: float
    chunks: tuple[bytes, ...]
    anchors: frozenset[bytes]
    notes: tuple[str, ...] = field(default=())


def run(repo: Repository, job: Job, views: Mapping[int, memoryview]) -> Done:
    """Make the commit. views: the memory of each segment. Raises what commits raise: the history is as it was then."""
    started = time.perf_counter()
    pairs = zip(nodes.tensors(job.root), job.staged, strict=True)
    sources = [_StagedSource(path, entry, staged, views[staged.segment]) for (path, entry), staged in pairs]
    known = {one.id: views[one.segment][one.offset : one.offset + one.nbytes] for one in job.known}
    done = commit_flat(repo, job.root, sources, job.branch, job.details, known, worthwhile(job.effort))
    seconds = time.perf_counter() - started
    chunks = tuple(source.entry.chunks for source in sources)
    repo.events.bound()  # for the loop, which records what it hears of this one
    return Done(done.commit, done.new_bytes, seconds, chunks, done.anchors)


@dataclass(frozen=True, slots=True)
class _StagedSource:
    """A source (see `operations.sources`) of a tensor's copy."""

    path: nodes.Path
    entry: nodes.Tensor
    staged: Staged
    memory: memoryview
    in_file: int = 0

    @property
    def nbytes(self) -> int:
        return self.staged.nbytes

    def cuts(self, chunk_elements: int) -> Iterator[tuple[int, int]]:
        step = self.staged.chunk_bytes
        for offset in range(0, self.staged.nbytes, step):
            yield offset, min(step, self.staged.nbytes - offset)

    def read(self, offset: int, length: int) -> memoryview:
        """`length` bytes of one chunk."""
        number, within = divmod(offset, self.staged.chunk_bytes)
        start = self.staged.offsets[number] + within
        return self.memory[start : start + length]
