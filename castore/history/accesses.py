"""When states were last loaded, which a rule of retention goes by."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from castore.history.marks import Mark, MarkFile


class Accesses:
    """The file `accessed` of a store. Reading needs no lock; changes are made with the store's lock held.

    A damaged line is passed over: its commit counts as not loaded.
    """

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "accessed", id_hex_length)

    def read(self) -> dict[str, datetime]:
        """When each commit that was ever loaded was last."""
        return {commit_id: mark.time for commit_id, mark in self._file.read().items()}

    def get(self, commit_id: str) -> datetime | None:
        """When a commit was last loaded, None for never."""
        mark = self._file.get(commit_id)
        return None if mark is None else mark.time

    def add(self, commit_id: str, time: datetime) -> None:
        """Note that a commit is loaded."""
        self._file.update(added=[Mark(commit_id, time, ("",))])

    def forget(self, commits: Iterable[str]) -> None:
        """Take these commits out: they are gone."""
        self._file.forget(commits)

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()
