"""Stores that no castore would write: trees, commits and links that somebody made by hand, every hash of them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from castore import codecs, dtypes
from castore.chunks import pack
from castore.codecs.choice import Encoded
from castore.objects import codec, nodes
from castore.objects.commit import Commit
from castore.objects.tree import TreeWriter
from castore.store import Store

WHEN = datetime(2025, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
PLAIN = Commit("", "", (), "", None, {}, "ada@host", WHEN, {}, {}, None, codec.commit_stats({}))


def forge(
    store: Store, root: nodes.Node, chunks: Sequence[bytes] = (), branch: str = "evil", commit: Commit = PLAIN
) -> str:
    """Put a tree, its chunks and a commit of it into a store, past all that a commit checks; a branch leads to it."""
    repo = store._repo
    with repo.chunks.session() as session:
        for raw in chunks:
            payload = codecs.by_id(codecs.ZSTD).encode(raw, dtypes.BYTES, None)
            encoded = Encoded(codecs.ZSTD, payload, False)
            session._add(repo.hash.digest(raw), (), pack.CHUNK, dtypes.BYTES, len(raw), encoded)
        tree = TreeWriter(session.put_object).write(root)
        commit_id = session.put_object(pack.COMMIT, codec.encode(replace(commit, tree=tree.hex())))
        session.seal()
        with repo.lock.held():
            session.publish()
    (store.path / "refs/heads" / branch).write_text(f"{commit_id.hex()}\n")
    return commit_id.hex()


def file_of(store: Store, content: bytes) -> nodes.File:
    """A plain file, whose one chunk is `content`."""
    data = nodes.Tensor("bytes", "bytes", (len(content),), chunks=store._repo.hash.digest(content))
    return nodes.File(len(content), "plain", [((), data)])
