"""What a store holds, in numbers."""

from __future__ import annotations

from collections.abc import Iterator

from castore import codecs
from castore.chunks import pack
from castore.history.drops import Drop
from castore.history.walk import ancestors
from castore.objects import codec
from castore.objects.commit import Commit, ComponentStats
from castore.objects.patterns import matches
from castore.operations.reports import StoreStats
from castore.repo import Repository


def stats(repo: Repository) -> StoreStats:
    """Sums over all reachable commits, and over all records of the index."""
    commits = list(ancestors(repo.tips(), repo))
    drops = repo.drops.read()
    components: dict[str, list[ComponentStats]] = {}
    for commit in commits:
        for name, numbers in _left(commit, drops.get(commit.id)):
            components.setdefault(name, []).append(numbers)
    chunks = unique = standalone = delta = objects = 0
    by_codec: dict[str, int] = {}
    for _, place in repo.chunks.access.index.items():
        if place.kind != pack.CHUNK:
            objects += place.length
            continue
        chunks += 1
        unique += place.raw_length
        name = codecs.name_of(place.codec)
        by_codec[name] = by_codec.get(name, 0) + place.length
        if place.bases:
            delta += place.length
        else:
            standalone += place.length
    packs = repo.chunks.access.index.packs()
    return StoreStats(
        commits=len(commits),
        chunks=chunks,
        raw_bytes=sum(numbers.raw_bytes for parts in components.values() for numbers in parts),
        unique_bytes=unique,
        stored_bytes=sum(packs.values()),
        standalone_bytes=standalone,
        delta_bytes=delta,
        object_bytes=objects,
        packs=len(packs),
        codecs=by_codec,
        components={
            name: codec.commit_stats({str(i): one for i, one in enumerate(parts)}).total
            for name, parts in sorted(components.items())
        },
        dropped=sum(1 for commit in commits if commit.id in drops and not drops[commit.id].components),
        partial=sum(1 for commit in commits if commit.id in drops and drops[commit.id].components),
    )


def _left(commit: Commit, drop: Drop | None) -> Iterator[tuple[str, ComponentStats]]:
    """The components of a commit that retention has not dropped."""
    if drop is None:
        yield from commit.stats.components.items()
    elif drop.components:
        yield from ((n, one) for n, one in commit.stats.components.items() if not matches((n,), drop.components))
