"""One commit as it goes from the loop to whoever makes it: nodes, where the bytes lie, what to say of it.

This module and what it imports load no torch, since the process that makes commits has no use for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from castore.objects import nodes
from castore.objects.commit import Commit
from castore.operations.commit import commit_flat
from castore.operations.details import Details
from castore.repo import Repository

INLINE = -1  # the segment number of what travels with the job itself


@dataclass(frozen=True, slots=True)
class Staged:
    """A tensor's copy. segment: which one it lies in. offsets: of each of its chunks there, each but the last of
    `chunk_bytes`."""

    path: nodes.Path
    entry: nodes.Tensor
    nbytes: int
    chunk_bytes: int
    segment: int
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """The raw bytes of a chunk of an earlier commit that still lie in a segment."""

    id: bytes
    segment: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Job:
    """A commit to make. inline: the bytes of all small tensors. segments: number and size of those it needs.
    worthwhile: see `codecs.choice.choose`.

    The nodes of `root` are those of `staged`: both travel together.
    """

    root: nodes.Node
    staged: tuple[Staged, ...]
    inline: bytes
    known: tuple[Known, ...]
    segments: tuple[tuple[int, int], ...]
    branch: str
    details: Details
    worthwhile: float


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
    memory = {**views, INLINE: memoryview(job.inline)}
    sources = [_StagedSource(staged, memory[staged.segment]) for staged in job.staged]
    known = {one.id: memory[one.segment][one.offset : one.offset + one.nbytes] for one in job.known}
    done = commit_flat(repo, job.root, sources, job.branch, job.details, known, job.worthwhile)
    seconds = time.perf_counter() - started
    chunks = tuple(staged.entry.chunks for staged in job.staged)
    repo.events.bound()  # for the loop, which records what it hears of this one
    return Done(done.commit, done.new_bytes, seconds, chunks, done.anchors)


@dataclass(frozen=True, slots=True)
class _StagedSource:
    """A source (see `operations.sources`) of a tensor's copy."""

    staged: Staged
    memory: memoryview
    in_file: int = 0

    @property
    def path(self) -> nodes.Path:
        return self.staged.path

    @property
    def entry(self) -> nodes.Tensor:
        return self.staged.entry

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
