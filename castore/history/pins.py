"""Pins: commits that retention never drops and gc never collects, whether or not a ref leads to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from castore.history.marks import Mark, MarkFile


@dataclass(frozen=True, slots=True)
class Pin:
    """commit: its full id. time: when it was pinned. reason: why, "" where nobody said."""

    commit: str
    time: datetime
    reason: str = ""


class Pins:
    """The pins of a store: its file `pins`. Reading needs no lock; changes are made with the store's lock held."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "pins", id_hex_length)

    def read(self) -> dict[str, Pin]:
        """All of them by commit. Raises CorruptError for a damaged line: a partial list would mislead gc."""
        return {mark.commit: Pin(mark.commit, mark.time, mark.texts[0]) for mark in self._file.read_whole().values()}

    def readable(self) -> dict[str, Pin]:
        """Those that can be read, whatever the others say."""
        return {mark.commit: Pin(mark.commit, mark.time, mark.texts[0]) for mark in self._file.read().values()}

    def add(self, pin: Pin) -> None:
        """Pin a commit, or say anew why it is pinned."""
        self.read()
        self._file.update(added=[Mark(pin.commit, pin.time, (pin.reason,))])

    def remove(self, commit_id: str) -> None:
        """Let go of a commit."""
        self.read()
        self._file.update(removed=[commit_id])

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()

    def content(self) -> bytes:
        """What tells one state of the file from another."""
        return self._file.content()
