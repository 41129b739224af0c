"""What retention dropped: commits whose state, or parts of it, the store need not keep. The commits stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from castore.errors import CorruptError
from castore.history.marks import Mark, MarkFile

PRESENT, PARTIAL, DROPPED = "present", "partial", "dropped"


@dataclass(frozen=True, slots=True)
class Drop:
    """What was dropped of one commit.

    commit: its full id. time: when. rule: by which rules, such as "--keep-last 5". components: patterns of the parts
    that went, as `castore.objects.patterns` reads them; none: the whole state.
    """

    commit: str
    time: datetime
    rule: str
    components: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """How much of the state is left: "partial" or "dropped"."""
        return PARTIAL if self.components else DROPPED


class Drops:
    """The drops of a store: its file `dropped`. Reading needs no lock; changes are made with the store's lock held."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self._file = MarkFile(root, "dropped", id_hex_length)

    def read(self) -> dict[str, Drop]:
        """All of them by commit. A damaged line is left out: its commit counts as present, and nothing more is lost."""
        return {commit_id: _drop(mark) for commit_id, mark in self._file.read().items()}

    def get(self, commit_id: str) -> Drop | None:
        """What was dropped of one commit, None for nothing."""
        mark = self._file.get(commit_id)
        return None if mark is None else _drop(mark)

    def state(self, commit_id: str) -> str:
        """How much of a commit's state there is: "present", "partial" or "dropped"."""
        drop = self.get(commit_id)
        return PRESENT if drop is None else drop.state

    def add(self, drops: Iterable[Drop]) -> None:
        """Note what is dropped from now on, all at once, in the place of what was noted of the same commits before.

        Raises CorruptError as `require_whole` does.
        """
        self.require_whole()
        self._file.update(added=[Mark(one.commit, one.time, (one.rule, *one.components)) for one in drops])

    def forget(self, commits: Iterable[str]) -> None:
        """Take these commits out: they are gone themselves, or were committed again. Raises CorruptError as `add`."""
        known = [one for one in commits if self.get(one) is not None]
        if known:
            self.require_whole()
            self._file.forget(known)

    def require_whole(self) -> None:
        """Raise CorruptError unless the file's checksum is right: by a changed line too much would be deleted."""
        if not self._file.is_as_written():
            raise CorruptError(self._file.problem())

    def problem(self) -> str:
        """What is wrong with the file, in a line; "" for nothing."""
        return self._file.problem()

    def content(self) -> bytes:
        """What tells one state of the file from another."""
        return self._file.content()


def _drop(mark: Mark) -> Drop:
    return Drop(mark.commit, mark.time, mark.texts[0], mark.texts[1:])
