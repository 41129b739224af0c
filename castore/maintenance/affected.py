"""Which commits and tensors a damaged record affects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from castore.errors import CorruptError
from castore.maintenance.reports import FsckError
from castore.objects import nodes
from castore.objects.patterns import fitting
from castore.repo import Repository

_MOST_PATHS = 20


def affected(
    repo: Repository, bad: Mapping[bytes, FsckError], commits: Iterable[str], unreadable: Iterable[str] = ()
) -> list[FsckError]:
    """The errors of bad records, each with the commits that it affects and the paths in them.

    unreadable: commits that are known by their ids alone.
    """
    if not bad:
        return []
    causes = _causes(repo, bad)
    touched: dict[bytes, tuple[dict[str, None], dict[str, None]]] = {one: ({}, {}) for one in bad}
    for commit_id in unreadable:
        for cause in causes.get(bytes.fromhex(commit_id), ()):
            touched[cause][0][commit_id] = None
    for commit_id in commits:
        for cause, path in _in_commit(repo, commit_id, causes):
            touched[cause][0][commit_id] = None
            if path:
                touched[cause][1][path] = None
    return [
        replace(error, commits=tuple(touched[one][0]), paths=tuple(touched[one][1])[:_MOST_PATHS])
        for one, error in bad.items()
    ]


def _causes(repo: Repository, bad: Mapping[bytes, FsckError]) -> dict[bytes, frozenset[bytes]]:
    """Every record that can't be decoded -> the bad records that it needs: itself, or bases below it."""
    none: frozenset[bytes] = frozenset()
    causes = {one: frozenset((one,)) for one in bad}
    grew = True
    while grew:
        grew = False
        for record_id, place in repo.chunks.access.index.items():
            known = causes.get(record_id, none)
            found = known.union(*(causes.get(base, none) for base in place.bases)) if place.bases else known
            if found != known:
                causes[record_id] = found
                grew = True
    return causes


def _in_commit(
    repo: Repository, commit_id: str, causes: Mapping[bytes, frozenset[bytes]]
) -> Iterable[tuple[bytes, str]]:
    """The bad records that a commit needs, with the path of the tensor that needs it, "" for one of its objects."""
    size = repo.hash.size
    drop = repo.drops.get(commit_id)
    commit = repo.commit(commit_id)
    found = [(cause, "") for cause in causes.get(bytes.fromhex(commit.provenance or ""), ())]
    if drop is not None and not drop.components:
        return found
    reader = repo.tree_reader()
    try:
        root = reader.read(bytes.fromhex(commit.tree))
    except CorruptError:
        return [*found, *((cause, "") for one, _ in reader.object_ids for cause in causes.get(one, ()))]
    found += [(cause, "") for one, _ in reader.object_ids for cause in causes.get(one, ())]
    gone = {id(entry) for entry in fitting(root, drop.components)} if drop is not None else set()
    for path, entry in nodes.tensors(root):
        if id(entry) in gone:
            continue
        for start in range(0, len(entry.chunks), size):
            chunk_id = entry.chunks[start : start + size]
            found.extend((cause, ".".join(path)) for cause in causes.get(chunk_id, ()))
    return found
