"""Tier moves: commits that are of another tier now than the one they were committed with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from castore.history.marks import Mark, MarkFile


@dataclass(frozen=True, slots=True)
class TierMove:
    """commit: its full id. time: when it was moved. tier: the one that it is of since."""

    commit: str
    time: datetime
    tier: str


class TierMoves:
    """The moves of a store: its file `tiers`. Reading needs no lock; changes are made with the store's lock held."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "tiers", id_hex_length)
        self._known: tuple[bytes, dict[str, TierMove]] = b"", {}

    def read(self) -> dict[str, TierMove]:
        """All of them by commit. Raises CorruptError for a damaged line: by a partial list too much is dropped."""
        self._file.read_whole()
        return dict(self._moves())

    def get(self, commit_id: str) -> TierMove | None:
        """The move of one commit; None where it is of the tier that it was committed with, or its line is damaged."""
        return self._moves().get(commit_id)

    def add(self, moves: Iterable[TierMove]) -> None:
        """Move commits, all at once. Raises CorruptError as `read` does."""
        self.read()
        self._file.update(added=[Mark(one.commit, one.time, (one.tier,)) for one in moves])

    def commits(self) -> list[str]:
        """The commits that were moved, as far as the file can be read."""
        return list(self._moves())

    def forget(self, commits: Iterable[str]) -> None:
        """Take these commits out: they are gone. A damaged file is left as it is, for somebody to mend."""
        if not self.problem():
            self._file.forget(commits)

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()

    def _moves(self) -> dict[str, TierMove]:
        content = self._file.content()
        if self._known[0] != content:
            marks = self._file.read()
            self._known = content, {one: TierMove(one, mark.time, mark.texts[0]) for one, mark in marks.items()}
        return self._known[1]
