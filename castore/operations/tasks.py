"""What is put into a session, in which order: chunks of tensors, bundled where one is predicted from another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castore import dtypes
from castore.chunks.foresight import Foreseen
from castore.chunks.session import Put
from castore.dtypes import DType
from castore.objects import nodes
from castore.operations.bases import Bases
from castore.operations.sources import Source

if TYPE_CHECKING:
    from castore.codecs.row_column import Rows
    from castore.state.roles import Relation

_BATCH_CHUNKS = 128


@dataclass(frozen=True, slots=True)
class Task:
    """A chunk to put. foreseen: its `bases` that are numbers count within the task's bundle. foreign, rows: see Put."""

    source: Source
    dtype: DType
    offset: int
    length: int
    base: bytes
    foreseen: Foreseen | None = None
    foreign: bool = False
    rows: Rows | None = None


Bundle = Sequence[Task]  # of one batch, in order: bases before what is predicted from them


def puts(batch: Sequence[Bundle]) -> list[Put]:
    """The puts of a batch, bundle after bundle."""
    found: list[Put] = []
    for bundle in batch:
        start = len(found)
        for task in bundle:
            seen = task.foreseen
            if seen is not None:
                bases = tuple(start + base if isinstance(base, int) else base for base in seen.bases)
                seen = Foreseen(seen.predictor, bases, seen.factors)
            raw = task.source.read(task.offset, task.length)
            found.append(Put(raw, task.dtype, task.base, seen, task.foreign, task.rows))
    return found


def batches(bundles: Iterable[Bundle], batch_bytes: int) -> Iterator[list[Bundle]]:
    """Bundles in batches of about that many bytes."""
    batch: list[Bundle] = []
    size = count = 0
    for bundle in bundles:
        length = sum(task.length for task in bundle)
        if batch and (size + length > batch_bytes or count >= _BATCH_CHUNKS):
            yield batch
            batch, size, count = [], 0, 0
        batch.append(bundle)
        size += length
        count += len(bundle)
    if batch:
        yield batch


def bundles(
    sources: Sequence[Source],
    bases: Bases,
    relations: Mapping[nodes.Path, Relation],
    chunk_elements: int,
    id_size: int,
) -> Iterator[Bundle]:
    """Every source's chunks, in its order. Tensors that are related come together, chunk by chunk."""
    by_path = {source.path: source for source in sources} if relations else {}
    neighbours = _neighbours(by_path, relations)
    done: set[int] = set()
    for source in sources:
        if id(source) in done:
            continue
        group = _related(source, by_path, neighbours, relations) if source.path in neighbours else [source]
        done.update(map(id, group))
        yield from zip(*(_tasks(one, group, bases, relations, chunk_elements, id_size) for one in group), strict=True)


def _related(
    source: Source,
    by_path: Mapping[nodes.Path, Source],
    neighbours: Mapping[nodes.Path, set[nodes.Path]],
    relations: Mapping[nodes.Path, Relation],
) -> list[Source]:
    """All that a source is related to in this state and cut like it, itself included, bases first."""
    met, open_paths = {source.path}, [source.path]
    while open_paths:
        for path in neighbours.get(open_paths.pop(), ()):
            if path not in met:
                met.add(path)
                open_paths.append(path)
    ordered: list[Source] = []

    def add(path: nodes.Path, above: frozenset[nodes.Path]) -> None:
        relation = relations.get(path)
        for base, is_new in relation.bases if relation is not None else ():
            if is_new and base in met and base not in above:
                add(base, above | {path})
        if by_path[path] not in ordered:
            ordered.append(by_path[path])

    for path in sorted(met):
        add(path, frozenset())
    return ordered


def _neighbours(
    by_path: Mapping[nodes.Path, Source], relations: Mapping[nodes.Path, Relation]
) -> dict[nodes.Path, set[nodes.Path]]:
    """Paths that must be put together, both ways: what is predicted, and what of this state it is predicted from."""
    found: dict[nodes.Path, set[nodes.Path]] = {}
    for path, relation in relations.items():
        for base, is_new in relation.bases:
            if is_new and path in by_path and base in by_path and _alike(by_path[path], by_path[base]):
                found.setdefault(path, set()).add(base)
                found.setdefault(base, set()).add(path)
    return found


def _alike(a: Source, b: Source) -> bool:
    """Whether their chunks lie at the same places: as many elements, in words of their own."""
    width_a, width_b = (dtypes.by_name(one.entry.dtype).width for one in (a, b))
    return a.nbytes * width_b == b.nbytes * width_a


def _tasks(
    source: Source,
    group: Sequence[Source],
    bases: Bases,
    relations: Mapping[nodes.Path, Relation],
    chunk_elements: int,
    id_size: int,
) -> Iterator[Task]:
    """A source's chunks, those that can be predicted with what from; group: the bundle that they will be in."""
    dtype = dtypes.by_name(source.entry.dtype)
    own, foreign, relation = bases.of(source), bases.is_foreign(source), relations.get(source.path)
    related = _bases(relation, group, bases)
    for number, (offset, length) in enumerate(source.cuts(chunk_elements)):
        part = slice(number * id_size, (number + 1) * id_size)
        foreseen = None
        if relation is not None and related:
            known = tuple(base if isinstance(base, int) else base[part] for base in related)
            if b"" not in known:
                foreseen = Foreseen(relation.predictor, known, relation.factors)
        yield Task(source, dtype, offset, length, own[part], foreseen, foreign, _rows(relation, dtype, offset))


def _bases(relation: Relation | None, group: Sequence[Source], bases: Bases) -> list[int | bytes]:
    """What a tensor is predicted from: places in its group, for tensors of this state, and the parent's chunk ids of
    others; empty if not all of it is in the group."""
    if relation is None or not relation.bases:
        return []
    places = {one.path: place for place, one in enumerate(group)}
    if not all(path in places for path, _ in relation.bases):
        return []
    return [places[path] if is_new else bases.of(group[places[path]]) for path, is_new in relation.bases]


def _rows(relation: Relation | None, dtype: DType, offset: int) -> Rows | None:
    """How the chunk that begins at a byte of its tensor lies in the rows of a related one."""
    if relation is None or not relation.width:
        return None
    from castore.codecs.row_column import Rows

    return Rows(relation.width, offset // dtype.width % relation.width)
