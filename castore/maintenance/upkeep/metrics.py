"""The metrics of a store: what commits and packs say of themselves, and the sums over what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator

from castore.history.drops import DROPPED, PARTIAL, PRESENT
from castore.history.walk import ancestors
from castore.maintenance.upkeep.state import State
from castore.maintenance.upkeep.watch import last_commits, watch
from castore.monitoring.prometheus import Family, histogram, number, numbers
from castore.monitoring.tally import Tally, Times
from castore.objects.commit import Commit, ComponentStats
from castore.repo import Repository

_NO_TIER = "none"


def metrics(repo: Repository) -> list[Family]:
    """All there are. Raises the alerts that are due; raises CorruptError, UsageError as `watch`."""
    watch(repo)
    return [*_commits(repo), *_bytes(repo), *_happened(repo.events.tally()), *_upkeep(repo)]


def _commits(repo: Repository) -> Iterator[Family]:
    drops = repo.drops.read()
    states = {PRESENT: 0.0, PARTIAL: 0.0, DROPPED: 0.0}
    tiers: dict[str, list[ComponentStats]] = {}
    for commit in ancestors(repo.tips(), repo):
        state = drops[commit.id].state if commit.id in drops else PRESENT
        states[state] += 1
        if state != DROPPED:
            tiers.setdefault(commit.tier or _NO_TIER, []).append(commit.stats.total)
    newest = last_commits(repo)
    yield numbers("castore_commits", "gauge", "Commits in history, by what is left of their state.", "state", states)
    yield numbers(
        "castore_last_commit_timestamp_seconds",
        "gauge",
        "When the newest commit of a branch was made; time() - this is its age.",
        "branch",
        {branch: commit.time.timestamp() for branch, commit in newest.items()},
    )
    yield numbers("castore_last_commit_step", "gauge", "Its training step.", "branch", _steps(newest))
    yield from _sizes(tiers)


def _steps(newest: dict[str, Commit]) -> dict[str, float]:
    return {branch: commit.step for branch, commit in newest.items() if commit.step is not None}


def _sizes(tiers: dict[str, list[ComponentStats]]) -> Iterator[Family]:
    """What commits said that they took when they were made. Later repacking does not change it."""
    for name, help_, of in (
        ("raw", "as whole copies", lambda one: one.raw_bytes),
        ("unique", "of chunks that the store did not have yet, uncompressed", lambda one: one.new_raw_bytes),
        ("added", "added to the store", lambda one: one.stored_bytes),
        ("delta", "added to the store as deltas", lambda one: one.delta_bytes),
    ):
        values = {tier: sum(map(of, parts)) for tier, parts in sorted(tiers.items())}
        text = f"Bytes of the tensors of commits whose state is there, {help_}, by tier."
        yield numbers(f"castore_commit_{name}_bytes", "gauge", text, "tier", values)
    total = [one for parts in tiers.values() for one in parts]
    raw, added = sum(one.raw_bytes for one in total), sum(one.stored_bytes for one in total)
    unique, delta = sum(one.new_raw_bytes for one in total), sum(one.delta_bytes for one in total)
    yield number("castore_dedup_ratio", "gauge", "The unique bytes of all tiers by the raw ones.", _ratio(unique, raw))
    text = "The delta bytes of all tiers by the added ones."
    yield number("castore_delta_ratio", "gauge", text, _ratio(delta, added))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _bytes(repo: Repository) -> Iterator[Family]:
    stored = sum(repo.chunks.access.use(lambda index: dict(index.packs())).values())
    yield number("castore_stored_bytes", "gauge", "What the store's packs take on disk.", stored)


def _happened(tally: Tally) -> Iterator[Family]:
    def times(name: str) -> dict[str, Times]:
        return {label: one for (key, label), one in sorted(tally.times.items()) if key == name}

    def counts(kind: str) -> dict[str, float]:
        return {label: one for (key, label), one in sorted(tally.counts.items()) if key == kind}

    def total(name: str) -> float:
        return sum(one for (key, _), one in tally.amounts.items() if key == name)

    made = sum(counts("commit").values())
    yield number("castore_commits_made_total", "counter", "Commits that were made.", made)
    yield number(
        "castore_committed_bytes_total", "counter", "Bytes that they added to the store.", total("commit.bytes")
    )
    for name, key, help_ in (
        ("castore_commit_seconds", "commit.seconds", "How long commits took, beside the loop where there is one."),
        ("castore_commit_stall_seconds", "commit.stall", "How long training loops stood still for a commit."),
    ):
        yield histogram(name, help_, "", times(key))
    yield histogram("castore_restore_seconds", "How long restores took.", "how", times("restore.seconds"))
    yield histogram("castore_task_seconds", "How long upkeep took.", "task", times("task.seconds"))
    amounts = {label: float(one) for (key, label), one in sorted(tally.amounts.items()) if key == "task.bytes"}
    text = "Bytes that upkeep read, copied or freed."
    yield numbers("castore_task_bytes_total", "counter", text, "task", amounts)
    yield numbers("castore_failures_total", "counter", "What failed.", "kind", counts("failure"))
    yield numbers("castore_alerts_total", "counter", "Alerts that were raised.", "event", counts("alert"))
    yield number("castore_events_lost_total", "counter", "Events that could not be written.", tally.lost)


def _upkeep(repo: Repository) -> Iterator[Family]:
    state = State.read(repo.path)
    yield numbers(
        "castore_task_last_done_timestamp_seconds",
        "gauge",
        "When a task of upkeep was last done.",
        "task",
        dict(sorted(state.finished.items())),
    )
    scrub = state.scrub
    damaged = max(scrub.damaged, scrub.damaged_before)
    text = "Records and packs that the scrub found damaged, in its last round or in this one."
    yield number("castore_scrub_damaged_records", "gauge", text, damaged)
