"""A fresh process that restores a commit as a user would, and compares what it got with the commit.

Copies in the second directories of tiers don't count: what is asked is whether this store can give it back.

`castore.maintenance.verifying.verify` starts it, and reads its answer.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Any, BinaryIO

from castore.errors import CastoreError, ReplayError
from castore.objects import nodes
from castore.objects.commit import Commit
from castore.operations.checkout import checkout_here
from castore.operations.entries import leaves
from castore.operations.load import load_here, walk_files
from castore.store import Store
from castore.store import open as open_store

_MOST_PROBLEMS = 20


def serve(arguments: list[str]) -> int:
    """Answer what was asked, as JSON to a file descriptor: its number, and the question as JSON."""
    fd, asked = int(arguments[0]), json.loads(arguments[1])
    answer: dict[str, Any]
    try:
        with open_store(asked["store"]) as store:
            commit = store.show(asked["commit"])
            answer = restored(store, commit)
            if "replay" in asked and not answer["problems"]:
                from castore.training.replay import replayed

                answer["replay"] = replayed(store, commit, **asked["replay"])
    except CastoreError as error:
        answer = {"error": str(error), "kind": "replay" if isinstance(error, ReplayError) else ""}
    with os.fdopen(fd, "w") as out:
        json.dump(answer, out)
    return 0


def restored(store: Store, commit: Commit) -> dict[str, Any]:
    """Restore a commit whole (or what retention left of it), and hash every tensor or file of that anew."""
    check = _Check(store)
    root = store.repository.tree(commit)
    try:
        if isinstance(root, nodes.Directory):
            check.files(commit, root)
        else:
            check.state(commit, root)
    except CastoreError as error:
        check.problems.append(str(error))
    return {"tensors": check.tensors, "raw_bytes": check.raw_bytes, "problems": check.problems[:_MOST_PROBLEMS]}


class _Check:
    """Compares what was restored with what the tree of a commit says. tensors, raw_bytes: how much it was."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chunks = store.repository.chunks
        self.tensors = 0
        self.raw_bytes = 0
        self.problems: list[str] = []

    def state(self, commit: Commit, root: nodes.Node) -> None:
        """A state: loaded, flattened as for a commit, and each tensor hashed chunk by chunk."""
        from castore.state.live import flatten

        whole = not any(entry.dropped for _, entry in nodes.tensors(root))
        left = None if whole else [escape(one.path) for one in leaves(root) if one.value != "dropped"]
        flat = flatten(load_here(self._store.repository, commit.id, left, None))
        there = [(path, entry) for path, entry in nodes.tensors(root) if not entry.dropped]
        if whole and [*leaves(flat.root)] != [*leaves(root)]:
            before, after = {repr(one) for one in leaves(root)}, {repr(one) for one in leaves(flat.root)}
            self.problems += [f"restored otherwise than committed: {one}" for one in sorted(after - before)]
            self.problems += [f"committed and not restored so: {one}" for one in sorted(before - after)]
        if len(there) != len(flat.sources):
            self.problems.append(f"{len(flat.sources)} tensors were restored, of {len(there)}")
            return
        for (path, entry), source in zip(there, flat.sources, strict=True):
            width = source.width
            spans = (source.span(at // width, (at + size) // width) for at, size in self._cuts(entry, source.nbytes))
            self._compare(".".join(path), entry, spans)
            self.raw_bytes += source.nbytes

    def files(self, commit: Commit, root: nodes.Directory) -> None:
        """Files: checked out to a temporary directory, and every byte of each looked at."""
        left = [(name, node) for name, node in walk_files(root) if not _dropped(node)]
        with tempfile.TemporaryDirectory(prefix="castore-verify-") as directory:
            target = Path(directory) / "files"
            target.mkdir()
            whole = len(left) == len(walk_files(root))
            only = None if whole else [escape(name) for name, _ in left]
            checkout_here(self._store.repository, commit.id, target, only, None, False, [])
            for name, node in left:
                with (target / name).open("rb") as file:
                    self._file(name, node, file)

    def _file(self, name: str, node: nodes.File, file: BinaryIO) -> None:
        for path, data in node.segments:
            if isinstance(data, nodes.Value):
                size = len(data.value) if isinstance(data.value, bytes) else 0
                if file.read(size) != data.value:
                    self.problems.append(f"{name}: plain bytes before a tensor differ")
                self.raw_bytes += size
                continue
            sizes = [size for _, size in self._cuts(data, None)]
            self._compare(".".join((name, *path)), data, (memoryview(file.read(size)) for size in sizes))
            self.raw_bytes += sum(sizes)
        if file.read(1):
            self.problems.append(f"{name}: it is longer than it was")

    def _cuts(self, entry: nodes.Tensor, nbytes: int | None) -> list[tuple[int, int]]:
        """(offset, length) of the chunks of a tensor, as the store has them. nbytes: what they must add up to."""
        at, found = 0, []
        for place in self._chunks.places(self._ids(entry)):
            found.append((at, place.raw_length))
            at += place.raw_length
        if nbytes is not None and at != nbytes:
            self.problems.append(f"a tensor of {nbytes} bytes was restored from chunks of {at}")
            return []
        return found

    def _ids(self, entry: nodes.Tensor) -> Sequence[bytes]:
        size = self._store.repository.hash.size
        return [entry.chunks[at : at + size] for at in range(0, len(entry.chunks), size)]

    def _compare(self, name: str, entry: nodes.Tensor, spans: Iterator[memoryview]) -> None:
        digest = self._store.repository.hash.digest
        self.tensors += 1
        if [digest(span) for span in spans] != self._ids(entry):
            self.problems.append(f"{name}: what was restored is not what was committed")


def _dropped(node: nodes.File) -> bool:
    return any(isinstance(data, nodes.Tensor) and data.dropped for _, data in node.segments)
