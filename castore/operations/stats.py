"""What a store holds, in numbers."""

from __future__ import annotations

from castore import codecs
from castore.chunks import pack
from castore.history.walk import ancestors
from castore.objects import codec
from castore.objects.commit import ComponentStats
from castore.operations.reports import StoreStats
from castore.repo import Repository


def stats(repo: Repository) -> StoreStats:
    """Sums over all reachable commits, and over all records of the index."""
    tips = [*repo.refs.branches().values(), *repo.refs.tags().values()]
    head = repo.refs.head().commit
    commits = list(ancestors([*tips, *([head] if head else [])], repo))
    components: dict[str, list[ComponentStats]] = {}
    for commit in commits:
        for name, numbers in commit.stats.components.items():
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
        raw_bytes=sum(commit.stats.total.raw_bytes for commit in commits),
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
    )
