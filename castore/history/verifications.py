"""When commits were last verified, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from castore.history.marks import Mark, MarkFile


@dataclass(frozen=True, slots=True)
class Verification:
    """commit: its full id. time: when it was restored in a fresh process. problem: what was wrong, "" for nothing.

    replay: by which function steps were replayed and how many, such as "train:replay, 5 steps"; "" for none.
    """

    commit: str
    time: datetime
    problem: str = ""
    replay: str = ""

    @property
    def ok(self) -> bool:
        return not self.problem


class Verifications:
    """Those of a store: its file `verified`, the newest of each commit. Reading needs no lock; changes are made with
    the store's lock held. Nothing depends on it: a damaged line is passed over, and its commit counts as unverified."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "verified", id_hex_length)

    def read(self) -> dict[str, Verification]:
        """All of them by commit."""
        return {commit_id: _verification(mark) for commit_id, mark in self._file.read().items()}

    def get(self, commit_id: str) -> Verification | None:
        """The newest of one commit, None where it was never verified."""
        mark = self._file.get(commit_id)
        return None if mark is None else _verification(mark)

    def add(self, found: Verification) -> None:
        """Note a verification, in the place of the one before."""
        self._file.update(added=[Mark(found.commit, found.time, (found.problem, found.replay[:_MOST_CHARS]))])

    def forget(self, commits: Iterable[str]) -> None:
        """Take these commits out: they are gone."""
        self._file.forget(commits)

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()


_MOST_CHARS = 1000  # of what names a replay: a line must have room for it


def _verification(mark: Mark) -> Verification:
    return Verification(mark.commit, mark.time, mark.texts[0], mark.texts[1] if len(mark.texts) > 1 else "")
