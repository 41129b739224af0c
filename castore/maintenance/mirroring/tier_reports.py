"""What there is of each tier, and where its copies lie."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from castore.chunks import pack
from castore.copies import directories, opened
from castore.errors import CastoreError
from castore.history.drops import DROPPED
from castore.history.walk import ancestors
from castore.maintenance.mirroring.copied import copies_in, waiting
from castore.maintenance.reports import TierOf, TierReport
from castore.objects import codec
from castore.repo import Repository


def tier_reports(repo: Repository) -> list[TierReport]:
    """Each tier, from the lowest to the highest. Raises UsageError, CorruptError, MissingError."""
    drops = repo.drops.read()
    held = [
        commit for commit in ancestors(repo.tips(), repo) if commit.id not in drops or drops[commit.id].state != DROPPED
    ]
    states = Counter(commit.tier for commit in held)
    uncopied = waiting(repo, held)
    waits = Counter(commit.tier for commit in held if commit.id in uncopied)
    where = {name: path for path, names in directories(repo).items() for name in names}
    return [
        TierReport(tier, states[tier.name], where.get(tier.name), waits[tier.name] if tier.directory else None)
        for tier in repo.tiers().all
    ]


def tier_of(repo: Repository, rev: str) -> TierOf:
    """Which tier a commit is of, and where it has copies. A directory that is gone is noted.

    Raises RevisionError, UsageError, CorruptError.
    """
    commit = repo.commit(repo.resolve(rev))
    made = codec.decode(commit.id, repo.chunks.object(bytes.fromhex(commit.id), pack.COMMIT))
    found = TierOf(commit.id, commit.tier, made.tier, repo.moves.get(commit.id), ())
    for directory in directories(repo):
        try:
            with opened(repo, directory) as target:
                if commit.id in copies_in(target).states:
                    found = replace(found, copies=(*found.copies, directory))
        except CastoreError as error:
            repo.progress.note(str(error))
    return found
