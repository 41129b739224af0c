"""Moving commits between tiers, under the store's lock."""

from __future__ import annotations

from datetime import datetime

from castore import config
from castore.errors import UsageError
from castore.history.audit_line import Event
from castore.history.moves import TierMove
from castore.operations.branches import check_present
from castore.repo import Repository
from castore.retention.tiers import AUTO


def move_tier(repo: Repository, rev: str, tier: str, time: datetime) -> TierMove:
    """Let a commit be of another tier. Raises RevisionError, UsageError, CorruptError for a damaged file of moves."""
    if tier == AUTO:
        raise UsageError(f"{AUTO!r} is no tier: name the one that the commit is to be of")
    repo.tiers().named(tier)
    made = TierMove(repo.resolve(rev), time, tier)
    with repo.lock.held():
        check_present(repo, made.commit)
        repo.require_features(config.TIERS)
        repo.audit.append(Event("move", made.commit, detail=f"to tier {tier}"))
        repo.moves.add([made])
    return made
