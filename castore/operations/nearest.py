"""The nearest tensor of the store: what deltas are taken against where the parent has no counterpart by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from castore import dtypes
from castore.objects import nodes
from castore.objects.lineages import lineages
from castore.operations.sketches import Candidate, Kind, Sketches, kind_of
from castore.operations.sources import Source
from castore.repo import Repository

_WORTHWHILE = 0.05  # of what a tensor takes alone: what `codecs.choice` asks of a delta
_TRIES = 4  # the nearest may be gone
_CHUNKS_A_SKETCH = 4  # a look-up decodes one chunk for that many that it may save, to make sketches that are missing


class Nearest:
    """The look-ups of one commit, and the sketches that it leaves for those of later ones."""

    def __init__(self, repo: Repository, branch: str, parent: nodes.Node | None) -> None:
        """parent: the tree that the branch has now."""
        self._repo = repo
        self._sketches = Sketches(repo, branch, parent)
        self._own: dict[int, bytes | None] = {}

    def choose(self, sources: Sequence[Source]) -> dict[int, bytes]:
        """The chunk ids of the stored tensors that are near to these, by the `id` of a source's entry."""
        groups: dict[Kind, list[Source]] = {}
        for source in sources:
            groups.setdefault(kind_of(source.entry), []).append(source)
        self._sketches.want(groups.keys())
        return {number: chunks for kind, members in groups.items() for number, chunks in self._chosen(kind, members)}

    def changes(self, sources: Sequence[Source], sketched: Mapping[int, Source]) -> dict[bytes, bytes | None]:
        """What changes among the index's sketches by a commit of `sources`, which are stored by now.

        sketched: those of them that get a new sketch, by the `id` of the entry.
        """
        self._sketches.begin()
        if sketched:
            names = lineages([(one.in_file, one.path) for one in sources])
            for name, source in zip(names, sources, strict=True):
                if id(source.entry) in sketched:
                    self._sketches.keep(source.entry, name, self._sketch(source))
        return self._sketches.changes

    def _chosen(self, kind: Kind, members: Sequence[Source]) -> Iterator[tuple[int, bytes]]:
        from castore.codecs import sketch

        dtype = dtypes.by_name(kind[0])
        owns = [(source, own) for source in members if (own := self._sketch(source)) is not None]
        chunks = len(self._lengths(members[0]))
        candidates = self._sketches.candidates(kind, len(owns) * -(-chunks // _CHUNKS_A_SKETCH)) if owns else []
        if not candidates:
            return
        others = sketch.values(b"".join([one.sketch for one in candidates]), dtype)
        for source, own in owns:
            own_values = sketch.values(own, dtype)
            for row in sketch.nearest(own_values, others)[:_TRIES]:
                if sketch.saves(own_values, others[row : row + 1], dtype) < _WORTHWHILE:
                    break
                if self._is_there(candidates[row], source):
                    yield id(source.entry), candidates[row].chunks
                    break

    def _sketch(self, source: Source) -> bytes | None:
        """The sketch of a tensor that is being committed."""
        from castore.codecs.sketch import sketch

        if id(source.entry) not in self._own:
            raw = source.read(0, self._lengths(source)[0])
            self._own[id(source.entry)] = sketch(raw, dtypes.by_name(source.entry.dtype))
        return self._own[id(source.entry)]

    def _is_there(self, candidate: Candidate, source: Source) -> bool:
        """Whether the store has all its chunks, and they are cut like the source's."""
        size, ids = self._repo.hash.size, candidate.chunks
        parts = [ids[at : at + size] for at in range(0, len(ids), size)]
        places = self._repo.chunks.access.use(lambda index: index.get_many(parts))
        if None in places:
            self._sketches.forget(candidate)
        return self._lengths(source) == [-1 if place is None else place.raw_length for place in places]

    def _lengths(self, source: Source) -> list[int]:
        return [length for _, length in source.cuts(self._repo.config.chunk_elements)]
