"""From sources of bytes to chunks in a session: cut, matched with the parent's chunks, stored over all threads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from castore.chunks.session import Stored, WriteSession
from castore.limits import MIB
from castore.objects import nodes
from castore.objects.commit import ComponentStats
from castore.operations.bases import Bases
from castore.operations.sources import Source
from castore.operations.tasks import Bundle, Task, batches, bundles, puts
from castore.quiet import SHORT_BYTES, no_collection
from castore.repo import Repository

if TYPE_CHECKING:
    from castore.state.roles import Relation

_BATCH_BYTES = (MIB, 8 * MIB)  # a task's least and most: few tasks cost less, many keep all threads busy to the end
_TASKS_A_THREAD = 8
_MOST_COMPONENTS = 64  # in a commit's statistics; a list of thousands would tell nobody anything


def store_sources(
    repo: Repository,
    session: WriteSession,
    sources: Sequence[Source],
    bases: Bases,
    relations: Mapping[nodes.Path, Relation],
) -> dict[str, ComponentStats]:
    """Store every source's chunks and set the entries' chunk ids. Returns what each top-level part took.

    relations: which tensors can be predicted from which, by path (see `state.roles`).
    """
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

    def work(batch: list[Bundle]) -> list[tuple[Task, Stored]]:
        tasks = [task for bundle in batch for task in bundle]
        return list(zip(tasks, session.put_chunks(puts(batch)), strict=True))

    total = sum(source.nbytes for source in sources)
    least, most = _BATCH_BYTES
    batch_bytes = min(max(total // (_TASKS_A_THREAD * repo.chunks.pool.size), least), most)
    parts = bundles(sources, bases, relations, repo.config.chunk_elements, repo.hash.size)
    repo.progress.start("Storing", total, "bytes")
    with no_collection() if total < SHORT_BYTES else contextlib.nullcontext():
        for results in repo.chunks.pool.map(work, batches(parts, batch_bytes)):
            for task, stored in results:
                chunk_ids[id(task.source.entry)] += stored.id
                if stored.added_bytes:
                    if task.offset == 0 and not stored.is_delta:
                        bases.stored_whole(task.source)
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
