"""What has been copied to the second directories of tiers, and what waits for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from castore.copies import directories, opened
from castore.errors import CastoreError
from castore.history.drops import DROPPED
from castore.history.walk import ancestors
from castore.objects.commit import Commit
from castore.repo import Repository


@dataclass(frozen=True, slots=True)
class Copies:
    """What a store of copies has. commits: all that its refs lead to. states: those with a state, or a part of it."""

    commits: frozenset[str]
    states: frozenset[str]


def copies_in(target: Repository) -> Copies:
    """What refs of a store of copies lead to. Raises MissingError, CorruptError."""
    commits = frozenset(commit.id for commit in ancestors(target.tips(), target))
    gone = {commit_id for commit_id, drop in target.drops.read().items() if drop.state == DROPPED}
    return Copies(commits, commits - gone)


def waiting(repo: Repository, commits: Iterable[Commit]) -> dict[str, str]:
    """Those of some commits that a directory of their tier has no copy of, as far as anybody knows, with a text each.

    A directory that is gone is noted: what should lie there waits.
    """
    found: dict[str, str] = {}
    listed = list(commits)
    for directory, names in directories(repo).items():
        own = [commit.id for commit in listed if commit.tier in names]
        there: frozenset[str] = frozenset()
        try:
            if own:
                with opened(repo, directory) as target:
                    there = copies_in(target).states
        except CastoreError as error:
            repo.progress.note(str(error))
        found.update((commit_id, f"waits to be copied to {directory}") for commit_id in own if commit_id not in there)
    return found
