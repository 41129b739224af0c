"""What a commit that lost components still needs."""

from __future__ import annotations

from castore.history.drops import Drop
from castore.objects import nodes
from castore.objects.commit import Commit
from castore.objects.patterns import fitting
from castore.repo import Repository


def kept_part(repo: Repository, commit: Commit, drop: Drop) -> tuple[list[bytes], bytes]:
    """The ids of the objects of its tree, all of them, and of the chunks of what was not dropped, one after another.

    Raises CorruptError, MissingError.
    """
    reader = repo.tree_reader()
    root = reader.read(bytes.fromhex(commit.tree))
    gone = {id(entry) for entry in fitting(root, drop.components)}
    chunks = b"".join(entry.chunks for _, entry in nodes.tensors(root) if id(entry) not in gone)
    return [record_id for record_id, _ in reader.object_ids], chunks
