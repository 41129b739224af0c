"""What the processes of the tests do. They report by appending lines to a file, each in one write."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import resource
import signal
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import castore
from castore.errors import CastoreError, LockTimeoutError, RefConflictError, StorageError
from castore.maintenance.reports import MirrorReport
from castore.maintenance.upkeep.maintain import MaintainReport
from castore.monitoring.events import Events
from castore.store import Store
from castore.testing import faults
from castore.testing.states import equal_states
from tests.samples import state

torch.set_num_threads(1)  # OpenMP's threads do not survive the fork


def report(file: Path, *words: object) -> None:
    """Append one line to a report."""
    fd = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


def read_report(file: Path) -> list[list[str]]:
    """The lines of a report, in words."""
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def commit_until_killed(path: Path, branch: str, first_seed: int, seconds: float, acknowledged: Path) -> None:
    """Commit on and on, reporting each commit that returned, until a signal ends the process in the midst of it.

    seconds: from the first commit on, which loads and warms what the others use.
    """
    store = castore.open(path)
    report(acknowledged, store.commit(state(first_seed), branch=branch).id, first_seed)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    seed = first_seed + 1
    while True:
        report(acknowledged, store.commit(state(seed), branch=branch).id, seed)
        seed += 1


def _commit(store: Store, branch: str, seed: int, acknowledged: Path) -> None:
    """A commit that stays and is acknowledged, and two of which the states go."""
    from tests.warmed import RUN

    report(acknowledged, store.commit(state(seed), branch=branch, tier="archive", run=RUN).id, seed)
    for more in (1, 2):
        rest = {**state(seed), "more": state(seed + 500 * more)}
        store.commit(rest, branch=f"scrap-{branch}", tier="scrap", run=RUN)
    store.delete_branch(f"scrap-{branch}", force=True)


ACTIONS = ("commit", "gc", "commit", "repack", "commit", "mirror", "commit", "maintain")  # what is killed
UPKEEP = ("mirror", "prune", "repack", "gc", "scrub")  # without verify, which is a process of its own


def work_until_killed(path: Path, slot: int, number: int, doing: Connection, acknowledged: Path) -> None:
    """Commit, collect, repack, mirror and maintain in turn, until somebody kills the process.

    slot: of the processes at work at once, which one. doing: is told what comes next. Commits to the branch that stays
    are reported when they have returned.
    """
    doing.send("open")
    store = castore.open(path)
    for turn in itertools.count(number):
        action = ACTIONS[turn % len(ACTIONS)]
        doing.send(action)
        with contextlib.suppress(LockTimeoutError):  # one repack at a time
            if action == "commit":
                _commit(store, f"branch{slot}", 1000 * number + turn, acknowledged)
            elif action in ("mirror", "maintain"):
                _raise_what_failed(store.mirror() if action == "mirror" else store.maintain(only=UPKEEP, force=True))
            else:
                getattr(store, action)()


def _raise_what_failed(report: MirrorReport | MaintainReport) -> None:
    """These two go on after a failure, and report it."""
    for part in report.directories if isinstance(report, MirrorReport) else report.tasks:
        if part.error is not None:
            raise part.error


def commit_until_death(path: Path, seed: int, nth: int, acknowledged: Path) -> None:
    """Commit once, dying before the nth write operation."""
    with castore.open(path) as store, faults.die_at(nth):
        report(acknowledged, store.commit(state(seed)).id, seed)


def collect_until_death(path: Path, nth: int) -> None:
    """Collect garbage, dying before the nth write operation."""
    with castore.open(path) as store, faults.die_at(nth):
        store.gc()


def prune_until_death(path: Path, nth: int) -> None:
    """Drop all states but the last two, dying before the nth write operation."""
    with castore.open(path) as store, faults.die_at(nth):
        store.prune({"keep_last": 2})


def commit_many(path: Path, branch: str, seeds: Sequence[int], acknowledged: Path) -> None:
    """Commit a sequence of states to one branch, again and again when another process was faster."""
    with castore.open(path) as store:
        for seed in seeds:
            while True:
                try:
                    commit = store.commit(state(seed), branch=branch)
                except RefConflictError:
                    report(acknowledged, "lost", seed)
                    continue
                report(acknowledged, commit.id, seed)
                break


def commit_once(path: Path, branch: str, seed: int, acknowledged: Path) -> None:
    """Commit, or report that another process was faster."""
    with castore.open(path) as store:
        try:
            report(acknowledged, store.commit(state(seed), branch=branch).id, seed)
        except RefConflictError:
            report(acknowledged, "lost", seed)


def open_new(path: Path, gate: Path, acknowledged: Path) -> None:
    """Open a store that may not be there yet, with all who wait at `gate`, a file that is locked, at once."""
    with gate.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with castore.open(path, create=True) as store:
            report(acknowledged, (store.path / "castore.toml").read_text().split('uuid = "')[1][:36])


def churn(path: Path, branch: str, seeds: Sequence[int]) -> None:
    """Commit to a branch, delete it and begin again: garbage, beside whoever else is at work."""
    with castore.open(path) as store:
        for seed in seeds:
            store.commit(state(seed), branch=branch)
            if seed % 2:
                store.delete_branch(branch, force=True)


def collect(path: Path, rounds: int) -> None:
    """Collect garbage a number of times."""
    with castore.open(path) as store:
        for _ in range(rounds):
            store.gc()


def prune_and_collect(path: Path, rounds: int) -> None:
    """Drop states and collect them a number of times, beside whoever else is at work."""
    with castore.open(path) as store:
        for number in range(rounds):
            store.prune({"keep_last": 2} if number % 2 else {"drop_components": "model"})
            store.gc()


def check(path: Path, rounds: int) -> None:
    """Run fsck a number of times; it must find nothing."""
    with castore.open(path) as store:
        for _ in range(rounds):
            found = store.fsck(read_data=True)
            assert found.ok, found.errors


def read(path: Path, history: dict[str, int], rounds: int) -> None:
    """Load commits again and again; each must be what was committed."""
    with castore.open(path) as store:
        for _ in range(rounds):
            for commit, seed in history.items():
                assert equal_states(store.load(commit), state(seed))


def rebuild_index(path: Path) -> None:
    """Make the index anew, as `fsck --repair` does, while others have the old one open."""
    with castore.open(path) as store:
        store._repo.chunks.access.rebuild()


def commit_beyond_file_size(path: Path, limit: int, acknowledged: Path) -> None:
    """Commit under a real limit of the operating system on the size of files."""
    with castore.open(path) as store:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            store.commit(state(1, 1 << 19))
        except StorageError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            report(acknowledged, "refused", error)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        report(acknowledged, store.commit(state(2)).id, 2)


def fork_with_open_store(path: Path, history: dict[str, int], acknowledged: Path) -> None:
    """Fork with a store open and in use; parent and children load and commit through it."""
    store = castore.open(path)
    for commit, seed in history.items():
        assert equal_states(store.load(commit), state(seed))
    report(acknowledged, store.commit(state(50), branch="parent").id, 50)
    for seed in (51, 52):
        child = os.fork()
        if child == 0:
            for commit, known in history.items():
                assert equal_states(store.load(commit), state(known))
            report(acknowledged, store.commit(state(seed), branch=f"child{seed}").id, seed)
            store.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert equal_states(store.load(f"child{seed}"), state(seed))
    store.close()


def work_as_another_user(path: Path, scratch: Path, user: int, group: int, seed: int) -> None:
    """Do all that changes a store, as a user who has nothing in common with its owner but the group.

    scratch: of another store, in which all that is imported on the way is loaded: the user may not read it.
    """
    _change_everything(scratch, seed)
    os.setgroups([group])
    os.setgid(user)
    os.setuid(user)
    os.umask(0o077)
    _change_everything(path, seed)


def _change_everything(path: Path, seed: int) -> None:
    with castore.open(path, create=True) as store:
        store.commit(state(seed))
        store.commit(state(seed + 1), branch=f"side{seed}")
        store.tag(f"v{seed}")
        store.pin("main")
        store.delete_branch(f"side{seed}", force=True)
        store.expire_reflog(None, datetime.now(timezone.utc))
        store.prune({"keep_last": 1})
        store.gc()
        assert store.fsck(read_data=True, repair=True).ok
        assert store.check_audit().ok


def repack(path: Path, rounds: int) -> None:
    """Place deltas anew a number of times; another repack may be at work."""
    with castore.open(path) as store:
        for _ in range(rounds):
            with contextlib.suppress(LockTimeoutError):
                store.repack()


def repack_until_death(path: Path, nth: int) -> None:
    """Place deltas anew, dying before the nth write operation."""
    with castore.open(path) as store, faults.die_at(nth):
        store.repack()


def repack_until_killed(path: Path, seconds: float) -> None:
    """Place deltas anew, ended by a signal in the midst of it, unless that comes too late."""
    with castore.open(path) as store:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        store.repack()
        signal.setitimer(signal.ITIMER_REAL, 0)


def record_events(root: Path, of: str, count: int) -> None:
    """Record events, beside whoever else does."""
    events = Events(root, False, lambda note: None)
    for _ in range(count):
        events.record("failure", of=of)


def stopped_in(path: Path, work: str, nth: int, acknowledged: Path) -> None:
    """Commit, or do what a method of Store does, and be stopped ahead of the nth write operation of that.

    Reported: the commit, or the class of the error.
    """
    with castore.open(path) as store, faults.stop_at(nth):
        try:
            if work == "commit":
                report(acknowledged, store.commit(state(3), branch="stopped").id, 3)
            elif work == "prune":
                store.prune({"keep_last": 1})
            else:
                getattr(store, work)()
        except CastoreError as error:
            report(acknowledged, type(error).__name__, error)


def stopped_in_the_index(path: Path) -> None:
    """Be stopped in the middle of an update of the index, which only happens with the store's lock held."""
    with castore.open(path) as store, store.repository.lock.held():
        index = store.repository.chunks.access.index
        with index._acquire().transaction(write=True):
            os.kill(os.getpid(), signal.SIGSTOP)


def killed_while_reading(path: Path, times: int) -> None:
    """Be killed with as many look-ups in the index under way."""
    with castore.open(path) as store, contextlib.ExitStack() as stack:
        environment = store.repository.chunks.access.index._acquire()
        for _ in range(times):
            stack.enter_context(environment.transaction())
        os.kill(os.getpid(), signal.SIGKILL)


def read_one_store(path: Path, history: dict[str, int], branch: str, rounds: int) -> None:
    """Load old commits, and the newest of a branch, through one Store that stays open."""
    with castore.open(path) as store:
        for _ in range(rounds):
            for commit, seed in history.items():
                assert equal_states(store.load(commit), state(seed))
            if branch in store.branches():
                newest = store.show(branch)
                assert newest.step is not None
                assert equal_states(store.load(newest.id), state(newest.step))
            store.repository.chunks.files.close()  # as when many other packs were read since


def commit_steps(path: Path, branch: str, seeds: Sequence[int], acknowledged: Path) -> None:
    """Commit states to a branch that others commit to; the step is the seed."""
    with castore.open(path) as store:
        for seed in seeds:
            committed = False
            while not committed:
                with contextlib.suppress(RefConflictError):
                    commit = store.commit(state(seed), branch=branch, step=seed, metrics={"loss": seed % 5})
                    report(acknowledged, branch, commit.id, seed)
                    committed = True


def at_another_time(path: Path, days: float, work: Callable[[Store], None]) -> None:
    """`work` by a clock that is so many days ahead."""
    from castore.history import actor

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=days)

    actor.datetime = Skewed
    with castore.open(path) as store:
        work(store)


def commit_two(store: Store) -> None:
    """Commit states 2 and 3."""
    for seed in (2, 3):
        store.commit(state(seed), step=seed)


def keep_up(store: Store) -> None:
    """Drop what is not recent, collect, and place anew."""
    store.prune({"keep_within": "7d"})
    store.gc()
    store.repack()


def load_all(store: Store) -> None:
    """Load every state of the current branch."""
    for commit in store.log():
        store.load(commit.id)


def fork_and_go_on(path: Path, history: dict[str, int], seeds: Sequence[int], acknowledged: Path) -> None:
    """Fork once for each seed, with a store open and in use; parent and children go on with it at once."""
    with castore.open(path) as store:
        children = []
        for seed in seeds:
            for commit, known in history.items():
                assert equal_states(store.load(commit), state(known))
            child = os.fork()
            if child == 0:
                for commit, known in history.items():
                    assert equal_states(store.load(commit), state(known))
                report(acknowledged, store.commit(state(seed), branch=f"child{seed}").id, seed)
                os._exit(0)
            children.append(child)
            report(acknowledged, store.commit(state(seed + 100), branch="parent").id, seed + 100)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * len(children)
