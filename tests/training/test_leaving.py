"""SIGTERM, and loops that raise: what is committed last, and how the process ends."""

from __future__ import annotations

import os
import signal

import pytest

import castore
from castore.errors import StorageError
from castore.store import Store
from castore.testing import faults
from tests.training.small import Loop, assert_holds, checkpointer, steps


def test_sigterm_is_left_alone_where_the_policy_says_so(store: Store) -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        with checkpointer(store, Loop()) as ckpt:
            os.kill(os.getpid(), signal.SIGTERM)
            assert ckpt.step(0)
            assert ckpt.step(1)
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps(store) == [0, 1]


def test_sigterm_commits_although_the_commit_before_failed(store: Store) -> None:
    loop, failures = Loop(), []
    policy = castore.Policy(steps=[0], on_preemption=True)
    ckpt = checkpointer(store, loop, policy=policy, on_failure=failures.append)
    with faults.inject("sync") as fault:
        assert ckpt.step(0)
        while not fault.struck:
            os.sched_yield()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        ckpt.step(1)
    assert caught.value.code == 128 + signal.SIGTERM
    assert [type(one) for one in failures] == [StorageError]
    assert steps(store) == [1]
    assert_holds(store, "main", loop.copy())


def test_what_the_loop_raises_is_committed_and_goes_on_up(store: Store) -> None:
    loop, error = Loop(), ZeroDivisionError("loss is 1/0")
    policy = castore.Policy(steps=[1], on_exception=True, on_preemption=False)
    with pytest.raises(ZeroDivisionError) as caught, checkpointer(store, loop, policy=policy) as ckpt:
        ckpt.step(1, {"loss": 2.0})
        loop.train()
        raise error
    assert caught.value is error
    assert steps(store) == [1, 1]
    assert store.show("main").message == "ZeroDivisionError: loss is 1/0"
    assert_holds(store, "main", loop.copy())


def test_what_the_loop_raises_is_committed_although_the_commit_before_failed(store: Store) -> None:
    lines: list[str] = []
    policy = castore.Policy(steps=[0], on_exception=True, on_preemption=False)
    with (
        pytest.raises(ZeroDivisionError),
        faults.inject("sync"),
        checkpointer(store, Loop(), policy=policy, report=lines.append) as ckpt,
    ):
        ckpt.step(0)
        raise ZeroDivisionError
    assert steps(store) == [0] and store.show("main").message == "ZeroDivisionError: "
    assert "failed" in lines[0] and "Input/output error" in lines[0]


def test_what_the_loop_raises_is_not_hidden_by_sigterm(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), checkpointer(store, Loop(), policy=castore.Policy(steps=[0])):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ZeroDivisionError


def test_sigterm_after_the_last_step_ends_the_process_all_the_same(store: Store) -> None:
    with (
        pytest.raises(SystemExit) as caught,
        checkpointer(store, Loop(), policy=castore.Policy(steps=[0])) as ckpt,
    ):
        ckpt.step(0)
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 128 + signal.SIGTERM
    assert steps(store) == [0]


def test_what_the_loop_raises_is_not_committed_unless_asked_for(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), checkpointer(store, Loop()):
        raise ZeroDivisionError
    with (
        pytest.raises(KeyboardInterrupt),
        checkpointer(store, Loop(), policy={"on_exception": True, "on_preemption": False}),
    ):
        raise KeyboardInterrupt
    assert store.branches() == {}


def test_on_another_thread_sigterm_is_said_not_to_be_heard(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def make() -> None:
        with pytest.warns(UserWarning, match="main thread"):
            checkpointer(store, Loop(), policy=castore.Policy(steps=[0])).close()

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(make).result()
    assert signal.getsignal(signal.SIGTERM) == before
