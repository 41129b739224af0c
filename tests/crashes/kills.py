"""Processes that are killed while they commit, collect, repack, mirror and maintain."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import castore
from castore.store import Store
from castore.testing.states import equal_states
from tests import workers
from tests.processes import start
from tests.samples import state
from tests.tiered import tiered
from tests.workers import read_report

LONGEST_S = 0.15  # of a life: some ten commits


@dataclass(slots=True)
class Toll:
    """What came of the kills. struck: what the processes were doing when they were killed. acknowledged: commits."""

    kills: int = 0
    acknowledged: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, other: Toll) -> None:
        self.kills += other.kills
        self.acknowledged += other.acknowledged
        self.struck += other.struck
        self.problems += other.problems


@dataclass(frozen=True, slots=True)
class _Victim:
    """A process at work, which is killed at a moment of `time.monotonic`."""

    slot: int
    process: BaseProcess
    doing: Connection
    due: float

    def kill(self, toll: Toll) -> None:
        self.process.join(max(0.0, self.due - time.monotonic()))
        self.process.kill()
        self.process.join()
        toll.kills += 1
        last = ""
        try:
            while True:
                last = self.doing.recv()
        except EOFError:
            toll.struck[last] += 1
        if self.process.exitcode != -signal.SIGKILL:
            toll.problems.append(f"a process ended by itself in {last}, with {self.process.exitcode}")


def kill(root: Path, kills: int, at_once: int = 2, seed: int = 0) -> Toll:
    """SIGKILL so many processes at random moments of their work on one store in `root`, an empty directory; what is
    wrong with the store then. As soon as one of those that are at work at once is dead, another begins."""
    path, acks = root / ".castore", root / "acknowledged"
    tiered(root, "[tiers.scrap]\nkeep_last = 1\n[tiers.archive]\ndirectory = 'copies'\n").close()
    rng = random.Random(seed)
    toll = Toll()
    at_work: list[_Victim] = []
    slots = list(range(at_once))
    for number in range(kills):
        if not slots:
            next_ = min(at_work, key=lambda victim: victim.due)
            next_.kill(toll)
            at_work.remove(next_)
            slots.append(next_.slot)
        at_work.append(_begin(slots.pop(), path, number, acks, rng.uniform(0, LONGEST_S)))
    for victim in at_work:
        victim.kill(toll)
    history = {commit: int(seed) for commit, seed in read_report(acks)}
    toll.acknowledged = len(history)
    with castore.open(path) as store:
        toll.problems += _problems(store, history)
    return toll


def _begin(slot: int, path: Path, number: int, acks: Path, life_s: float) -> _Victim:
    ours, theirs = Pipe(duplex=False)
    process = start(workers.work_until_killed, path, slot, number, theirs, acks)
    theirs.close()
    ours.poll(60)  # it begins; a process that cannot is found by how it ended
    return _Victim(slot, process, ours, time.monotonic() + life_s)


def _problems(store: Store, history: dict[str, int]) -> list[str]:
    problems = [error.problem for error in store.fsck().errors]
    reached = {commit.id for branch in store.branches() for commit in store.log(branch)}
    problems += [f"commit {commit} was acknowledged, and is gone" for commit in history.keys() - reached]
    history[store.commit(state(-1), branch="next").id] = -1
    store.gc()
    for commit, seed in history.items():
        if not equal_states(store.load(commit), state(seed)):
            problems.append(f"commit {commit} differs from what was committed")
    problems += [f"{one.name} is left" for one in (*store.path.glob("incoming/*"), *store.path.rglob("*.tmp"))]
    problems += [error.problem for error in store.fsck().errors] + list(store.check_audit().errors)
    for done in store.mirror().directories:
        problems += [f"mirror: {why}" for why in (done.error, *done.failed) if why]
        with castore.open(done.directory) as copies:
            problems += [f"in the copies: {error.problem}" for error in copies.fsck().errors]
    return problems
