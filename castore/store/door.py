"""What every part of `Store` stands on: the repository behind the door."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from castore.history.actor import now, whoami
from castore.history.reflog import Change
from castore.monitoring.events import FAILURES
from castore.monitoring.settings import FAILED_SAVE
from castore.operations.accesses import note_access
from castore.repo import Repository


class Door:
    """A part of `Store`. Its methods take what a user gives, and hand it to the operation that does the work."""

    _repo: Repository

    def _change(self, message: str) -> Change:
        return Change(whoami(), now(), message)

    @contextlib.contextmanager
    def _restoring(self, rev: str, how: str) -> Iterator[dict[str, Any]]:
        """Record that the body restores a revision, with the facts that it adds, and note that it was loaded."""
        with self._repo.events.timed("restore", how=how) as facts:
            yield facts
        note_access(self._repo, rev)

    @contextlib.contextmanager
    def _committing(self) -> Iterator[dict[str, Any]]:
        """Record the commit that the body makes, with the facts that it adds; raise the alert when it fails."""
        try:
            with self._repo.events.timed("commit") as facts:
                yield facts
        except FAILURES as error:
            self._repo.alerts.send(FAILED_SAVE, f"a commit to {self._repo.path} failed: {error}")
            raise
