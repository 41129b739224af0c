"""Processes that are killed while they commit, collect and repack."""

from __future__ import annotations

import random
from pathlib import Path

import castore
from castore.testing.states import equal_states
from tests import workers
from tests.processes import start
from tests.samples import state
from tests.workers import read_report


def kill(root: Path, kills: int, at_once: int = 2, seed: int = 0) -> list[str]:
    """Kill so many processes at random moments of their work on one store, some of them working at once; what is wrong
    with the store then."""
    path, acks = root / ".castore", root / "acknowledged"
    castore.open(path, create=True).close()
    rng = random.Random(seed)
    problems: list[str] = []
    for first in range(0, kills, at_once):
        numbers = range(first, min(first + at_once, kills))
        running = [start(workers.work_until_killed, path, n, rng.uniform(0.001, 0.15), acks) for n in numbers]
        for process in running:
            process.join(300)
            if process.exitcode != -14:  # by the signal, in the midst of its work
                problems.append(f"a process ended by itself, with {process.exitcode}, after about {first} kills")
    with castore.open(path) as store:
        found = store.fsck()
        problems += [error.problem for error in (*found.errors,)]
        history = {commit: int(seed) for commit, seed in read_report(acks)}
        reached = {commit.id for branch in store.branches() for commit in store.log(branch)}
        problems += [f"commit {commit} was acknowledged, and is gone" for commit in history.keys() - reached]
        store.gc()
        for commit, seed_ in history.items():
            if not equal_states(store.load(commit), state(seed_)):
                problems.append(f"commit {commit} differs from what was committed")
        left = [*(path / "incoming").iterdir(), *path.rglob("*.tmp")]
        problems += [f"{one.name} is left" for one in left]
        problems += [error.problem for error in store.fsck().errors] + list(store.check_audit().errors)
    return problems
