"""Noting that a state is loaded."""

from __future__ import annotations

from datetime import timedelta

from castore import limits
from castore.errors import LockTimeoutError, RevisionError, StorageError
from castore.history.actor import now
from castore.repo import Repository

_ONCE_IN = timedelta(hours=1)  # so that a program which loads a state again and again does not write each time


def note_access(repo: Repository, rev: str) -> None:
    """Note that what a revision names was loaded. A store that cannot be written is read all the same."""
    if repo.chunks.access.read_only:
        return
    try:
        commit_id, time = repo.resolve(rev), now()
    except RevisionError:
        return  # it came from a copy, and this store has lost the commit itself
    known = repo.accesses.get(commit_id)
    if known is not None and time - known < _ONCE_IN:
        return  # also where that was later, by a clock that was wrong then or is now: nothing may count as older for it
    try:
        with repo.lock.held(limits.ACCESS_WAIT_S):
            repo.accesses.add(commit_id, time)
    except (StorageError, LockTimeoutError) as error:
        repo.progress.note(f"the store does not remember that {commit_id[:12]} was loaded: {error}")
