"""What every part of `Store` stands on: the repository behind the door."""

from __future__ import annotations

from castore.history.actor import now, whoami
from castore.history.reflog import Change
from castore.repo import Repository


class Door:
    """A part of `Store`. Its methods take what a user gives, and hand it to the operation that does the work."""

    _repo: Repository

    def _change(self, message: str) -> Change:
        return Change(whoami(), now(), message)
