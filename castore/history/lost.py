"""Objects that were given up: commits, and what says how some came about. History goes on as if it began after them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from castore.history.marks import Mark, MarkFile


class Lost:
    """The objects that a store has lost for good: its file `lost`. Changes are made with the store's lock held."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "lost", id_hex_length)
        self._known: tuple[bytes, frozenset[str]] = b"", frozenset()

    def read(self) -> frozenset[str]:
        """Their ids in hex."""
        content = self._file.content()
        if self._known[0] != content:
            self._known = content, frozenset(self._file.read())
        return self._known[1]

    def add(self, ids: Iterable[str], time: datetime) -> None:
        """Give objects up. The store must require `lost`."""
        known = self.read()
        self._file.update(added=[Mark(one, time, ("",)) for one in ids if one not in known])

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()
