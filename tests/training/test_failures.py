"""The process that makes commits is killed, or slow; the disk fills up; another process is faster: nothing is lost."""

from __future__ import annotations

import errno
import os
import signal

import pytest

import castore
from castore.errors import CastoreError, RefConflictError, StorageError
from castore.store import Store
from castore.testing import faults
from castore.training.worker import WorkerDiedError
from tests.samples import assert_sound, incoming
from tests.training.small import EVERY, Loop, assert_holds, kill, steps, stop, worker_pid


class Told:
    """What `on_failure` and `report` were told."""

    def __init__(self) -> None:
        self.failures: list[CastoreError] = []
        self.lines: list[str] = []


def checkpointer(store: Store, loop: Loop, told: Told, **settings: object) -> castore.Checkpointer:
    given = {"policy": EVERY, "report": told.lines.append, "on_failure": told.failures.append, **settings}
    return castore.Checkpointer(store, **given, **loop.objects)  # type: ignore[arg-type]


def test_a_worker_killed_in_the_middle_of_a_commit_loses_only_that(store: Store) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told) as ckpt:
        assert ckpt.step(0)
        ckpt.wait()
        first = loop.copy()
        pid = worker_pid()
        stop(pid)
        loop.train()
        assert ckpt.step(1)
        kill(pid)
        with pytest.raises(WorkerDiedError, match="signal 9") as caught:
            ckpt.step(2)
        assert "\n" not in str(caught.value)
        assert told.failures == [caught.value]
        assert steps(store) == [0]
        assert_holds(store, "main", first)
        assert_sound(store)
        assert ckpt.step(3)  # by another process
        ckpt.wait()
        assert worker_pid() != pid
        assert_holds(store, "main", loop.copy())
    assert steps(store) == [0, 3]
    assert len(told.failures) == 1
    assert_sound(store)


def test_a_worker_killed_while_it_has_nothing_to_do_is_told_of_once(store: Store) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told) as ckpt:
        ckpt.save(0, wait=True)
        pid = worker_pid()
        kill(pid)
        with pytest.raises(WorkerDiedError, match="signal 9") as caught:
            ckpt.save(1)
        assert told.failures == [caught.value]
        loop.train()
        ckpt.save(2, wait=True)
        assert_holds(store, "main", loop.copy())
    assert steps(store) == [0, 2]
    assert_sound(store)


def test_a_step_that_finds_the_worker_busy_is_skipped_aloud(store: Store) -> None:
    loop, told = Loop(), Told()
    skipping = castore.Policy(every_steps=1, max_overhead=None, when_busy="skip", on_preemption=False)
    with checkpointer(store, loop, told, policy=skipping) as ckpt:
        assert ckpt.step(0)
        ckpt.wait()
        pid = worker_pid()
        stop(pid)
        assert ckpt.step(1)
        told.lines.clear()
        assert not ckpt.step(2)
        assert len(told.lines) == 1
        assert "step 2: skipped" in told.lines[0] and "commit of step 1" in told.lines[0]
        os.kill(pid, signal.SIGCONT)
        ckpt.wait()
        assert ckpt.step(3)
    assert steps(store) == [0, 1, 3]


def test_where_only_the_bound_asks_a_busy_worker_is_no_news(store: Store) -> None:
    loop, told = Loop(), Told()
    bound = castore.Policy(max_overhead=1.0, on_preemption=False)
    with checkpointer(store, loop, told, policy=bound) as ckpt:
        assert ckpt.step(0)
        ckpt.wait()
        pid = worker_pid()
        stop(pid)
        ckpt.save(1)
        assert not any(ckpt.step(step) for step in range(2, 50))
        os.kill(pid, signal.SIGCONT)
    assert steps(store) == [0, 1]
    assert not [line for line in told.lines if "skipped" in line]


def test_a_chosen_step_is_waited_for_where_others_are_skipped(store: Store) -> None:
    loop, told = Loop(), Told()
    policy = castore.Policy(steps=[0, 1, 2], when_busy="skip", on_preemption=False)
    with checkpointer(store, loop, told, policy=policy, worker="thread") as ckpt:
        for step in range(4):
            assert ckpt.step(step) == (step < 3)
            loop.train()
    assert steps(store) == [0, 1, 2]


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_who_waits_for_a_busy_worker_has_both_commits(store: Store, worker: str) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told, worker=worker) as ckpt:
        copies = []
        for step in range(3):
            loop.train()
            copies.append(loop.copy())
            assert ckpt.step(step)
        assert not any("skipped" in line for line in told.lines)
    assert steps(store) == [0, 1, 2]
    for back, copy in enumerate(reversed(copies)):
        assert_holds(store, f"main~{back}", copy)


# A full disk


def test_each_kind_of_operation_of_a_commit_beside_the_loop_may_fail(store: Store) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told, worker="thread") as ckpt:
        ckpt.save(0, wait=True)
        with faults.record() as recorded:
            loop.train()
            ckpt.save(0, wait=True)
        names = [operation.name for operation in recorded.operations]
        chosen = sorted(
            {names.index(name) + 1 for name in names} | {len(names) - names[::-1].index(name) for name in names}
        )
        refused = 0
        for nth in chosen:
            loop.train()
            before, held = store.resolve("main"), store.load("main")
            with faults.inject(nth=nth, error=errno.ENOSPC) as fault:
                ckpt.save(nth)
                try:
                    ckpt.step(nth)  # waits for the one before, under this policy
                    ckpt.wait()
                except StorageError as error:
                    assert "\n" not in str(error)
                    assert told.failures[-1] is error
                    refused += 1
            # A pack whose name begins like another's shares its directory: two operations less
            assert fault.struck or nth > len(names) - 2
            assert incoming(store) == []
            if store.resolve("main") == before:
                assert_holds(store, "main", held)
            loop.train()
            ckpt.save(nth + 100, wait=True)
            assert store.show("main").step == nth + 100
            assert_holds(store, "main", loop.copy())
    assert {"create", "write", "sync", "sync_dir", "rename", "append"} <= set(names)
    assert refused >= 8
    assert len(told.failures) == refused
    assert_sound(store)


def test_a_full_disk_leaves_the_branch_where_it_was(store: Store) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told, worker="thread") as ckpt:
        ckpt.save(0, wait=True)
        before, first = store.resolve("main"), loop.copy()
        with faults.inject("write", error=errno.ENOSPC, after=True):
            loop.train()
            assert ckpt.step(1)
            with pytest.raises(StorageError, match="full"):
                ckpt.step(2)
        assert store.resolve("main") == before
        assert_holds(store, "main", first)
        assert ckpt.step(3)
    assert steps(store) == [0, 3]
    assert_sound(store)


def test_closing_raises_what_failed_and_gives_everything_back(store: Store) -> None:
    loop, told = Loop(), Told()
    ckpt = checkpointer(store, loop, told, worker="thread")
    with faults.inject("sync", error=errno.ENOSPC, after=True):
        ckpt.save(0)
        with pytest.raises(StorageError, match="full") as caught:
            ckpt.close()
    assert told.failures == [caught.value]
    ckpt.close()  # raised once
    assert store.branches() == {}
    assert_sound(store)


def test_leaving_the_context_raises_what_failed(store: Store) -> None:
    with (
        faults.inject("sync", error=errno.ENOSPC, after=True),
        pytest.raises(StorageError, match="full"),
        checkpointer(store, Loop(), Told(), worker="thread") as ckpt,
    ):
        ckpt.save(0)
    assert store.branches() == {}


# Another process at the same branch


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_a_branch_that_another_one_moved_meanwhile_is_a_conflict(store: Store, worker: str) -> None:
    loop, told = Loop(), Told()
    with checkpointer(store, loop, told, worker=worker) as ckpt:
        ckpt.save(0, wait=True)
        store.branch("other", "main")
        theirs = store.commit({"from": "another process"}, branch="other").id
        loop.train()
        with store.repository.lock.held():
            ckpt.save(1)
            while not incoming(store):  # the commit has read where the branch is, and comes to the lock later
                os.sched_yield()
            store.branch("main", theirs, force=True)
        with pytest.raises(RefConflictError) as caught:
            ckpt.step(2)
        assert "\n" not in str(caught.value)
        assert told.failures == [caught.value]
        assert store.resolve("main") == theirs
        assert_sound(store)
        ckpt.save(3, wait=True)  # goes on from theirs
        assert store.show("main").parents == (theirs,)
        assert_holds(store, "main", loop.copy())
    assert steps(store) == [0, None, 3]
    assert_sound(store)
