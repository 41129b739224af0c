"""What somebody wants to hear of although nothing failed: a budget that is reached, and a run that commits no more."""

from __future__ import annotations

import time
from collections.abc import Iterator

from castore import config
from castore.errors import UsageError
from castore.maintenance.prune import configured
from castore.monitoring.settings import BUDGET, NO_COMMIT, AlertSettings, alert_settings
from castore.objects.commit import Commit
from castore.quantities import duration, size
from castore.repo import Repository
from castore.retention.budget import MaxBytes

_CLOCK_S = 60.0  # how far apart the clocks of two machines may be


def watch(repo: Repository) -> tuple[str, ...]:
    """Raise the alerts that are due, and wait until they are sent. Returns what should be known, a line each.

    Raises CorruptError when a branch leads to no commit, UsageError as `told_of`.
    """
    return (*_no_commit(repo), *_budget(repo))


def told_of(repo: Repository) -> AlertSettings:
    """The table `[alerts]`. Raises UsageError that names the file and what is wrong there."""
    try:
        return alert_settings(repo.config.alerts)
    except UsageError as error:
        raise UsageError(f"{repo.path / config.NAME}: {error}") from None


def last_commits(repo: Repository) -> dict[str, Commit]:
    """The newest commit of each branch. Raises CorruptError."""
    return {branch: repo.commit(commit_id) for branch, commit_id in sorted(repo.refs.branches().items())}


def _no_commit(repo: Repository) -> Iterator[str]:
    given = told_of(repo)
    newest = max(last_commits(repo).values(), key=lambda one: one.time, default=None)
    if newest is None:
        return
    age = time.time() - newest.time.timestamp()
    if age < -_CLOCK_S:
        yield f"commit {newest.id[:12]} is dated in the future, so a clock was wrong: its age is not known"
    elif given.no_commit_for is not None and age > given.no_commit_for.total_seconds():
        text = f"no commit for {duration(age)} in {repo.path}: the newest is {newest.id[:12]}"
        text += "" if newest.step is None else f" of step {newest.step}"
        repo.alerts.send(NO_COMMIT, text, wait=True, condition=newest.id, commit=newest.id, step=newest.step, age_s=age)
        yield text


def _budget(repo: Repository) -> Iterator[str]:
    try:
        rules = configured(repo)
    except UsageError as error:  # prune says so too, and refuses
        yield str(error)
        return
    stored = sum(repo.chunks.access.use(lambda index: dict(index.packs())).values())
    for _, rule in rules.keep:
        if isinstance(rule, MaxBytes) and stored > rule.budget_bytes:
            text = f"{repo.path} takes {size(stored)}, more than max_bytes = {rule.text}"
            facts = {"stored_bytes": stored, "max_bytes": rule.budget_bytes}
            repo.alerts.send(BUDGET, text, wait=True, condition=rule.text, **facts)
            yield text
