"""From sources of bytes to chunks in a session: cut, matched with the parent's chunks, stored over all threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from castore import dtypes
from castore.chunks.session import Put, Stored, WriteSession
from castore.dtypes import DType
from castore.limits import MIB
from castore.objects import nodes
from castore.objects.commit import ComponentStats
from castore.quiet import no_collection
from castore.repo import Repository

_BATCH_BYTES = (MIB, 8 * MIB)  # a task's least and most: few tasks cost less, many keep all threads busy to the end
_TASKS_A_THREAD = 8
_BATCH_CHUNKS = 128
_SHORT_BYTES = 256 * MIB
_MOST_COMPONENTS = 64  # in a commit's statistics; a list of thousands would tell nobody anything


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


@dataclass(frozen=True, slots=True)
class _Task:
    source: Source
    dtype: DType
    offset: int
    length: int
    base: bytes


class Bases:
    """The parent's tensors: where a new tensor of the same path, dtype and shape finds the base of its deltas.

    A file rarely keeps its name (step100.pt, step200.pt), and a state may come once as a file and once from Python;
    so a path is also looked up without the names of files, where that is not ambiguous.
    """

    def __init__(self, root: nodes.Node | None) -> None:
        self._exact: dict[nodes.Path, nodes.Tensor] = {}
        self._inside: dict[nodes.Path, nodes.Tensor | None] = {}
        if root is None:
            return
        self._exact.update(nodes.tensors(root))
        for depth, path, data in _in_files(root):
            inside = path[depth:]
            self._inside[inside] = None if inside in self._inside else data

    def chunks(self, path: nodes.Path, in_file: int, entry: nodes.Tensor) -> bytes:
        """The chunk ids to take bases from, b"" for none. in_file: how many parts of the path are names of files."""
        inside = path[in_file:]
        candidates = [self._exact.get(path)]
        if inside:  # () is a file's plain bytes: only the file of the same name is worth a look
            candidates += [self._inside.get(inside), self._exact.get(inside) if in_file else None]
        for found in candidates:
            if found is not None and (found.dtype, found.shape) == (entry.dtype, entry.shape):
                return found.chunks
        return b""


def _in_files(node: nodes.Node, path: nodes.Path = ()) -> Iterator[tuple[int, nodes.Path, nodes.Tensor]]:
    """Every tensor in a file: how many parts of its path name the file, its path, itself."""
    if isinstance(node, nodes.Directory):
        for name, entry in node.entries.items():
            yield from _in_files(entry, (*path, name))
    elif isinstance(node, nodes.File):
        for inside, data in node.segments:
            if inside and isinstance(data, nodes.Tensor):
                yield len(path), (*path, *inside), data


def store_sources(
    repo: Repository, session: WriteSession, sources: Sequence[Source], bases: Bases
) -> dict[str, ComponentStats]:
    """Store every source's chunks and set the entries' chunk ids. Returns what each top-level part took."""
    chunk_ids: dict[int, bytearray] = {id(source.entry): bytearray() for source in sources}
    totals: dict[str, list[int]] = {}
    component_of: dict[int, list[int]] = {}
    for source in sources:
        component = totals.get(name := _component(source))
        if component is None:
            name = name if len(totals) < _MOST_COMPONENTS else "(others)"
            component = totals.setdefault(name, [0, 0, 0, 0, 0])
        component_of[id(source.entry)] = component
        component[0] += source.nbytes
        component[4] += 1

    def work(batch: list[_Task]) -> list[tuple[_Task, Stored]]:
        puts = [Put(task.source.read(task.offset, task.length), task.dtype, task.base) for task in batch]
        return list(zip(batch, session.put_chunks(puts), strict=True))

    total = sum(source.nbytes for source in sources)
    least, most = _BATCH_BYTES
    batch_bytes = min(max(total // (_TASKS_A_THREAD * repo.chunks.pool.size), least), most)
    tasks = _batches(_tasks(sources, bases, repo.config.chunk_elements, repo.hash.size), batch_bytes)
    repo.progress.start("Storing", total, "bytes")
    # Thousands of small tensors are thousands of small objects of ours; with large ones this would last too long.
    with no_collection() if total < _SHORT_BYTES else contextlib.nullcontext():
        for results in repo.chunks.pool.map(work, tasks):
            for task, stored in results:
                chunk_ids[id(task.source.entry)] += stored.id
                if stored.added_bytes:
                    component = component_of[id(task.source.entry)]
                    component[1] += task.length
                    component[2] += stored.added_bytes
                    component[3] += stored.added_bytes if stored.is_delta else 0
            repo.progress.advance(sum(task.length for task, _ in results))
    repo.progress.finish()
    for source in sources:
        source.entry.chunks = bytes(chunk_ids[id(source.entry)])
    return {name: ComponentStats(*numbers) for name, numbers in totals.items()}


def _component(source: Source) -> str:
    """What a tensor is accounted to: the first key of a state ("model", "optimizer"), in a file the
    first key in it, else the file's name. A flat state dict is divided where its names' first dots are."""
    inside = source.path[source.in_file :]
    if not inside:
        return source.path[0] if source.path else "state"
    return inside[0] if len(inside) > 1 else inside[0].split(".")[0]


def _tasks(sources: Sequence[Source], bases: Bases, chunk_elements: int, id_size: int) -> Iterator[_Task]:
    for source in sources:
        entry = source.entry
        dtype = dtypes.by_name(entry.dtype)
        ids = bases.chunks(source.path, source.in_file, entry)
        for number, (offset, length) in enumerate(source.cuts(chunk_elements)):
            yield _Task(source, dtype, offset, length, ids[number * id_size : (number + 1) * id_size])


def _batches(tasks: Iterator[_Task], batch_bytes: int) -> Iterator[list[_Task]]:
    batch: list[_Task] = []
    size = 0
    for task in tasks:
        if batch and (size + task.length > batch_bytes or len(batch) == _BATCH_CHUNKS):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += task.length
    if batch:
        yield batch
