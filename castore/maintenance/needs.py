"""What a state names: the records of its tree and its chunks, without those that their deltas stand on."""

from __future__ import annotations

from castore.chunks import pack
from castore.history.drops import Drop
from castore.maintenance.kept_part import kept_part
from castore.objects import references
from castore.objects.commit import Commit
from castore.repo import Repository


def named(repo: Repository, commit: Commit, drop: Drop | None) -> set[bytes]:
    """The ids of the records of what is left of a commit's state, if `drop` is what is dropped of it.

    Raises CorruptError, MissingError.
    """
    if drop is None:
        return _whole(repo, bytes.fromhex(commit.tree))
    if not drop.components:
        return set()
    objects, chunks = kept_part(repo, commit, drop)
    return {*objects, *_split(repo, chunks)}


def _whole(repo: Repository, tree_id: bytes) -> set[bytes]:
    size, get = repo.hash.size, repo.chunks.object
    found = {tree_id}
    pending = [references.of_node(get(tree_id, pack.TREE), size)]
    while pending:
        part = pending.pop()
        found.update(_split(repo, bytes(part.chunks)), part.lists)
        for list_id in part.lists:
            found.update(_split(repo, get(list_id, pack.CHUNK_LIST)))
        fresh = set(part.segments) - found
        found |= fresh
        pending.extend(references.of_segment(get(segment, pack.TREE), size) for segment in fresh)
    return found


def _split(repo: Repository, ids: bytes) -> list[bytes]:
    size = repo.hash.size
    return [ids[start : start + size] for start in range(0, len(ids), size)]
