"""A process is stopped ahead of each operation of its work; others work on; then it goes on. Nothing is lost.

Among these moments: a chunk is swept as a commit counts on it, and a base is swept under its child.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
from pathlib import Path

import pytest

import castore
from castore.errors import LockTimeoutError, RevisionError
from tests import workers
from tests.processes import finish, start, stopped
from tests.samples import assert_loads, assert_sound, incoming, state
from tests.workers import read_report

# Of each work, so many operations or a few more: packs of a name that begins with the same letters share a directory
LEAST_OPERATIONS = {"commit": 18, "gc": 12, "repack": 90, "prune": 14}


def begun(path: Path) -> dict[str, int]:
    """Two branches: one that stays, and one that is about to be deleted, with states that the others come near to."""
    with castore.open(path) as store:
        kept = {store.commit(state(seed), branch="kept", step=seed).id: seed for seed in (1, 2)}
        for seed in (3, 4):
            store.commit({**state(seed), "more": state(seed + 10)}, branch="doomed", step=seed)
    return kept


def work_beside(path: Path, history: dict[str, int]) -> None:
    """Load all, commit what deduplicates, delete, collect, repack, commit again; who is refused the lock goes on."""
    with castore.open(path) as store:
        assert_loads(store, history)
        with contextlib.suppress(LockTimeoutError):
            history[store.commit({**state(4)}, branch="beside").id] = 4
        for work in (lambda: store.delete_branch("doomed", force=True), store.gc, store.repack, store.gc):
            with contextlib.suppress(LockTimeoutError, RevisionError):  # the branch is gone already
                work()
        with contextlib.suppress(LockTimeoutError):
            history[store.commit(state(5), branch="beside").id] = 5
        assert_loads(store, history)


@pytest.mark.parametrize("work", ["commit", "gc", "repack", "prune"])
def test_a_process_that_was_stopped_at_any_operation_does_no_harm_when_it_goes_on(
    path: Path, impatient: None, work: str
) -> None:
    begun(path)
    if work == "gc":
        with castore.open(path) as store:
            store.delete_branch("doomed", force=True)
    master = path.parent / "master"
    shutil.copytree(path, master)
    with castore.open(path) as store:
        kept = {commit.id: commit.step for commit in store.log("kept")}
    for nth in itertools.count(1):
        shutil.rmtree(path)
        shutil.copytree(master, path)
        acks = path.parent / f"acknowledged{nth}"
        history = {} if work == "prune" else dict(kept)
        with stopped(workers.stopped_in, path, work, nth, acks) as is_stopped:
            if is_stopped:
                work_beside(path, history)
        history |= {commit: int(seed) for commit, seed in read_report(acks)}
        with castore.open(path) as store:
            assert_loads(store, history)
            assert_sound(store)
            store.gc()
            assert incoming(store) == []
            assert_loads(store, history)
            assert_sound(store)
        if not is_stopped:
            break
    assert nth > LEAST_OPERATIONS[work]


def test_who_reads_does_not_wait_for_a_process_that_was_stopped_in_the_index(path: Path, impatient: None) -> None:
    kept = begun(path)
    with stopped(workers.stopped_in_the_index, path) as is_stopped:
        assert is_stopped
        finish([start(workers.read, path, kept, 1)])  # which opens the index too
        with castore.open(path) as store, pytest.raises(LockTimeoutError, match="fuser"):
            store.commit(state(7))
    with castore.open(path) as store:
        store.commit(state(7))
        assert_loads(store, {**kept, "main": 7})


def test_the_places_of_readers_that_were_killed_are_free_again(path: Path) -> None:
    kept = begun(path)
    with castore.open(path) as store:
        assert_loads(store, kept)
        for _ in range(3):
            process = start(workers.killed_while_reading, path, 500)
            process.join(300)
            assert process.exitcode == -signal.SIGKILL
        assert_loads(store, kept)
        store.commit(state(5), branch="kept")
        finish([start(workers.read, path, kept, 1)])
