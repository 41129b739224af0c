"""Maintain: runs what is due, one task after another, and remembers what was done.

One process at a time, which the kernel sees to. Every task is safe beside commits and readers and may be killed at any
time: what it had done is kept or made good by the next, and what it had not done stays due.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from castore import _fs
from castore.errors import CastoreError, CorruptError, UsageError
from castore.maintenance.pace import Pace
from castore.maintenance.reports import ScrubReport
from castore.maintenance.upkeep.settings import Settings, settings
from castore.maintenance.upkeep.state import LOCK, State
from castore.maintenance.upkeep.tasks import EVERY, TASKS, Task, TaskReport
from castore.maintenance.upkeep.watch import told_of, watch
from castore.maintenance.verifying.verification import Replay
from castore.monitoring.settings import FAILED_MAINTENANCE
from castore.repo import Repository

# What becomes of a task
DONE, UNFINISHED, FAILED, NOT_DUE, NO_TIME, DUE = "done", "unfinished", "failed", "not-due", "no-time", "due"


@dataclass(frozen=True, slots=True)
class TaskRun:
    """outcome: "done"; "unfinished": it goes on next time; "failed"; "not-due"; "no-time": it is due, and the time was
    over; "due", of a dry run. next_s: seconds until it is due (again), infinite for never. report: of a task that ran.
    error: of one that failed."""

    name: str
    outcome: str
    next_s: float
    seconds: float = 0.0
    report: TaskReport | None = None
    error: CastoreError | None = None


@dataclass(frozen=True, slots=True)
class MaintainReport:
    """busy: another process was at it, and nothing was done. warnings: a line each."""

    dry_run: bool
    busy: bool = False
    tasks: tuple[TaskRun, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0; or that of damage, if any was found or a commit does not verify; or that of the first failure."""
        if any(one.report is not None and (one.report.errors or one.report.failed) for one in self.tasks):
            return CorruptError.exit_code
        return next((one.error.exit_code for one in self.tasks if one.error is not None), 0)


def maintain(
    repo: Repository,
    time_s: float | None = None,
    rate: float | None = None,
    only: Collection[str] = (),
    force: bool = False,
    dry_run: bool = False,
    replay: Replay | None = None,
) -> MaintainReport:
    """Run what is due. time_s, rate: default those of castore.toml. only: these tasks. force: due or not. replay: what
    verify runs too.

    A task that fails does not keep the others from running. Raises UsageError for settings that can't be meant, and
    for a task that there is not; StorageError when the store can't be written.
    """
    given = replace(settings(repo, EVERY), replay=replay)
    told_of(repo)
    for name in only:
        if name not in EVERY:
            raise UsageError(f"there is no task {name!r}; there are: {', '.join(EVERY)}")
    tasks = [task for task in TASKS if not only or task.name in only]
    if dry_run:
        runs = tuple(_planned(task, wait_s, force) for task, wait_s in _waits(repo, tasks, given, _nobody))
        return MaintainReport(True, tasks=runs)
    pace = Pace.of(given.time_s if time_s is None else time_s, given.rate if rate is None else rate)
    warnings: list[str] = []
    with _fs.alone(repo.path / LOCK) as alone:
        if not alone:
            return MaintainReport(False, busy=True)
        waits = list(_waits(repo, tasks, given, warnings.append))
        runs = tuple(_run(repo, task, wait_s, force, pace, given) for task, wait_s in waits)
        try:
            warnings += watch(repo)
        except CorruptError as error:
            warnings.append(f"the age of the newest commit is not known: {error}")
    return MaintainReport(False, tasks=runs, warnings=tuple(warnings))


def _nobody(_warning: str) -> None:
    pass


def _waits(
    repo: Repository, tasks: list[Task], given: Settings, warn: Callable[[str], None]
) -> Iterator[tuple[Task, float]]:
    """The tasks, each with the seconds until it is due."""
    state, now = State.read(repo.path), time.time()
    for task in tasks:
        every_s, last = given.every_s[task.name], state.finished.get(task.name)
        if last is not None and last > now:
            warn(f"{task.name} was last done in the future, so a clock was wrong: it counts as due")
            last = None
        yield task, every_s if every_s == float("inf") else 0.0 if last is None else max(0.0, last + every_s - now)


def _planned(task: Task, wait_s: float, force: bool) -> TaskRun:
    return TaskRun(task.name, DUE if force or not wait_s else NOT_DUE, wait_s)


def _run(repo: Repository, task: Task, wait_s: float, force: bool, pace: Pace, given: Settings) -> TaskRun:
    planned = _planned(task, wait_s, force)
    if planned.outcome == NOT_DUE:
        return planned
    if pace.is_over():
        return replace(planned, outcome=NO_TIME)
    started = time.perf_counter()
    try:
        report = task.run(repo, pace, given)
        if report.done:
            _finished(repo, task.name)
    except CastoreError as error:
        _tell_of_failure(repo, task, error)
        return replace(planned, outcome=FAILED, seconds=time.perf_counter() - started, error=error)
    seconds = time.perf_counter() - started
    repo.events.bound()
    repo.events.record("task", task=task.name, seconds=round(seconds, 3), bytes=report.nbytes, done=report.done)
    outcome, next_s = (DONE, given.every_s[task.name]) if report.done else (UNFINISHED, 0.0)
    return TaskRun(task.name, outcome, next_s, seconds, report)


def _finished(repo: Repository, task: str) -> None:
    state = State.read(repo.path)
    state.finished[task] = time.time()
    state.write(repo.path, repo.lock)


def _tell_of_failure(repo: Repository, task: Task, error: CastoreError) -> None:
    repo.events.failed(task.name, error)
    text = f"castore maintain: {task.name} failed: {error}"
    repo.alerts.send(FAILED_MAINTENANCE, text, wait=True, task=task.name, condition=f"{task.name}: {error}"[:200])


def scrub_alone(repo: Repository, time_s: float | None, rate: float | None) -> ScrubReport | None:
    """Scrub to the end of the round, as a task that was asked for by name; None: another process is at upkeep."""
    from castore.maintenance.upkeep.scrub import scrub

    with _fs.alone(repo.path / LOCK) as alone:
        if not alone:
            return None
        with repo.events.timed("task", task="scrub") as facts:
            report = scrub(repo, Pace.of(time_s, rate))
            facts["bytes"] = report.read_bytes
        if report.done:
            _finished(repo, "scrub")
        return report
