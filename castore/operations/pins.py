"""Pinning commits, under the store's lock."""

from __future__ import annotations

from datetime import datetime

from castore import config
from castore.errors import RevisionError
from castore.history.audit_line import Event
from castore.history.drops import DROPPED
from castore.history.pins import Pin
from castore.operations.branches import check_present
from castore.repo import Repository


def pin(repo: Repository, rev: str, reason: str, time: datetime) -> Pin:
    """Pin a commit. Raises RevisionError, DroppedError when its state was dropped already."""
    made = Pin(repo.resolve(rev), time, reason)
    with repo.lock.held():
        check_present(repo, made.commit)
        if repo.drops.state(made.commit) == DROPPED:
            repo.tree(repo.commit(made.commit))  # raises DroppedError: a pin would keep nothing
        repo.require_features(config.RETENTION)
        repo.audit.append(Event("pin", made.commit, detail=reason))
        repo.pins.add(made)
    return made


def unpin(repo: Repository, rev: str) -> Pin:
    """Let go of a pinned commit. Raises RevisionError when it is not pinned."""
    commit_id = repo.resolve(rev)
    with repo.lock.held():
        found = repo.pins.read().get(commit_id)
        if found is None:
            raise RevisionError(f"{rev} ({commit_id[:12]}) is not pinned; `castore pin` lists what is")
        repo.audit.append(Event("unpin", commit_id, detail=found.reason))
        repo.pins.remove(commit_id)
    return found
