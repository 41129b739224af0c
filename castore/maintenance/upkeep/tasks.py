"""The table of upkeep: a task is a function of a repository and a pace, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from castore.errors import LockTimeoutError
from castore.maintenance.pace import Pace
from castore.maintenance.reports import FsckError
from castore.maintenance.upkeep.settings import MAX_SPAN_S, Settings
from castore.maintenance.verifying.verification import Replay
from castore.quantities import size
from castore.repo import Repository


@dataclass(frozen=True, slots=True)
class TaskReport:
    """done: all that was due is done; else its time was over before, and the next run goes on there.

    summary: for people, a line. nbytes: read or freed or copied, as the task has it. errors: damage that it found.
    failed: a line for each commit that does not verify.
    """

    done: bool
    summary: str
    nbytes: int = 0
    warnings: tuple[str, ...] = ()
    errors: tuple[FsckError, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """every: how often it is due unless `[maintain]` says otherwise, "never" for not at all."""

    name: str
    every: str
    run: Callable[[Repository, Pace, Settings], TaskReport]


def _now() -> datetime:
    return datetime.now().astimezone()


def _prune(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    from castore.maintenance.prune import NoRulesError, configured, prune

    try:
        report = prune(repo, configured(repo), None, False, _now)
    except NoRulesError:
        return TaskReport(True, "no rules in castore.toml, so nothing is dropped")
    summary = f"dropped {len(report.changed)} states or parts of them, of {len(report.commits)} commits"
    return TaskReport(True, summary, warnings=report.warnings)


def _gc(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    from castore.maintenance.gc import gc

    before = _now() - timedelta(days=repo.config.reflog_expire_days)
    report = gc(repo, before, dry_run=False, pace=pace)
    summary = f"removed {report.removed_chunks} chunks, freed {size(report.freed_bytes)}"
    return TaskReport(True, summary, max(0, report.freed_bytes))


def _repack(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    from castore.maintenance.repacking.repack import repack

    try:
        report = repack(repo, False, pace)
    except LockTimeoutError:
        return TaskReport(False, "another process repacks this store")
    taken, packs = size(report.after_bytes), f"{report.before_packs} packs are {report.after_packs}"
    summary = f"encoded {report.encoded_chunks} chunks anew, {packs}, {size(report.before_bytes)} are {taken}"
    return TaskReport(report.finished, summary, report.encoded_bytes)


def _mirror(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    from castore.maintenance.mirroring.mirror import mirror

    found = mirror(repo, pace.deadline, _now).directories
    for one in found:
        if one.error is not None:
            raise one.error
    new_bytes = sum(one.new_bytes for one in found)
    summary = f"copied {sum(one.copied for one in found)} commits to {len(found)} directories, {size(new_bytes)}"
    failed = tuple(line for one in found for line in one.failed)
    left = sum(one.left for one in found) - len(failed)
    return TaskReport(left <= 0, summary, new_bytes, failed)


def _verify(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    """The newest commit of each branch, in the order of their names, unless it was verified since it was last due; and
    of each a replay, if one is asked for."""
    from castore.maintenance.damage import tell_of_failed_verification
    from castore.maintenance.verifying.verify import replayable, verify

    since = _now() - timedelta(seconds=min(settings.every_s["verify"], MAX_SPAN_S))
    branches = sorted(repo.refs.branches().items())
    wanted: dict[tuple[str, bool], Replay | None] = {(tip, False): None for _, tip in branches}
    if settings.replay is not None:
        for name, tip in branches:
            start = replayable(repo, tip, settings.replay.steps)
            if start is not None:
                wanted[start, True] = replace(settings.replay, branch=name)
    tensors = 0
    failed: list[str] = []
    for (commit_id, _), replay in wanted.items():
        known = repo.verifications.get(commit_id)
        if known is not None and known.ok and since < known.time <= _now() and (replay is None or known.replay):
            continue
        if pace.is_over():
            return TaskReport(False, f"verified {tensors} tensors", failed=tuple(failed))
        report = verify(repo, commit_id, replay, _now)
        tensors += report.tensors
        if not report.ok:
            failed.append(f"commit {commit_id[:12]} does not verify: {report.problem}")
            tell_of_failed_verification(repo, report)
    return TaskReport(True, f"verified {tensors} tensors", failed=tuple(failed))


def _scrub(repo: Repository, pace: Pace, settings: Settings) -> TaskReport:
    from castore.maintenance.upkeep.scrub import scrub

    report = scrub(repo, pace, settings.within_s, settings.every_s["scrub"])
    so_far = "the round is over" if report.finished else f"{100 * report.share:.0f}% of the round is behind"
    found = f"{len(report.errors)} damaged" if report.errors else "nothing damaged"
    summary = f"read {size(report.read_bytes)}, {found}; {so_far}"
    return TaskReport(report.done, summary, report.read_bytes, report.warnings, report.errors)


# In the order in which they run: what is copied may be dropped, bases that only dropped states had are let go of by
# repack, what nothing needs then is collected, and what is deleted is not read.
TASKS = (
    Task("mirror", "1h", _mirror),
    Task("prune", "1d", _prune),
    Task("repack", "7d", _repack),
    Task("gc", "1d", _gc),
    Task("verify", "7d", _verify),
    Task("scrub", "1d", _scrub),
)
EVERY = {task.name: task.every for task in TASKS}
