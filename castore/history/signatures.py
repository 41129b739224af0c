"""Signatures of commits and tags: files of SSH signatures beside the refs. What they are worth is said elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from castore import limits
from castore.errors import CorruptError, UsageError
from castore.history import ref_files
from castore.history.names import is_valid_name

_DIRECTORY = "signatures"
_COMMITS = f"{_DIRECTORY}/commits"
_TAGS = f"{_DIRECTORY}/tags"
_ARMORED = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n(?:[A-Za-z0-9+/=]+\n)+-----END SSH SIGNATURE-----\n")


def commit_payload(commit_id: str) -> bytes:
    """What is signed of a commit. Its id vouches for its state and all commits before it."""
    return f"commit {commit_id}\n".encode()


def tag_payload(name: str, commit_id: str) -> bytes:
    """What is signed of a tag."""
    return f"tag {name}\ncommit {commit_id}\n".encode()


class Signatures:
    """The signatures of a store. Reading needs no lock; changes are made with the store's lock held."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        """root: the store's own directory. id_hex_length: hex digits of a commit id."""
        self._root = root
        self._id = re.compile(rf"[0-9a-f]{{{id_hex_length}}}")

    def commits(self) -> list[str]:
        """The ids of the commits that have signatures."""
        return sorted(filter(self._id.fullmatch, ref_files.list_names(self._root / _COMMITS)))

    def tags(self) -> list[str]:
        """The names of the tags that have signatures."""
        return sorted(filter(is_valid_name, ref_files.list_names(self._root / _TAGS)))

    def of_commit(self, commit_id: str) -> list[bytes]:
        """The signatures of a commit, in the order in which they were made. Raises CorruptError."""
        return self._read(f"{_COMMITS}/{commit_id}")

    def of_tag(self, name: str) -> list[bytes]:
        """The signatures of a tag. Raises CorruptError."""
        return self._read(f"{_TAGS}/{name}")

    def add(self, commit_id: str, signature: bytes) -> None:
        """Add a signature of a commit; the very same once. Raises UsageError for more than a file has room for."""
        found = self.of_commit(commit_id)
        if signature not in found:
            self._write(f"{_COMMITS}/{commit_id}", [*found, signature])

    def set_tag(self, name: str, signature: bytes | None) -> None:
        """Let a tag have this signature and no other, or (None) none."""
        if signature is not None:
            self._write(f"{_TAGS}/{name}", [signature])
        elif (self._root / _TAGS / name).exists():
            ref_files.delete(self._root, f"{_TAGS}/{name}", keep=_TAGS)

    def forget(self, commits: Iterable[str], tags: Iterable[str]) -> None:
        """Take out the signatures of what is gone."""
        for commit_id in commits:
            ref_files.delete(self._root, f"{_COMMITS}/{commit_id}", keep=_COMMITS)
        for name in tags:
            self.set_tag(name, None)
        ref_files.remove_leftovers(self._root / _DIRECTORY)

    def _read(self, name: str) -> list[bytes]:
        data = ref_files.read_small(self._root, name, limits.MAX_SIGNATURES_BYTES + 1) or b""
        found: list[bytes] = _ARMORED.findall(data)
        if b"".join(found) != data or len(data) > limits.MAX_SIGNATURES_BYTES:
            raise CorruptError(
                f"{self._root / name} holds something else than SSH signatures; delete it and sign again"
            )
        return found

    def _write(self, name: str, signatures: list[bytes]) -> None:
        data = b"".join(signatures)
        if len(data) > limits.MAX_SIGNATURES_BYTES:
            raise UsageError(f"{self._root / name} has no room for another signature; delete those that nobody needs")
        ref_files.write(self._root, name, data)
