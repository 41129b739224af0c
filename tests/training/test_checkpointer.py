"""The training loop's door: policy, preemption, exceptions, room on the disk, and what it says."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import castore
from castore.errors import RefNameError, StateError, StorageError, UsageError
from castore.store import Store
from castore.testing import faults
from tests import processes
from tests.samples import assert_sound, packs
from tests.training import loop as training
from tests.training.small import EVERY, Loop, assert_holds, open_store, steps


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store


def checkpointer(store: Store, loop: Loop, **settings: Any) -> castore.Checkpointer:
    return castore.Checkpointer(
        store, **{"policy": EVERY, "worker": "thread", "report": False} | settings | loop.objects
    )


# Policy


def committed_steps(ckpt: castore.Checkpointer, steps: range, **metrics: float) -> list[int]:
    return [step for step in steps if ckpt.step(step, metrics)]


def test_the_policy_is_what_castore_toml_says_unless_one_is_given(tmp_path: Path) -> None:
    with open_store(tmp_path, 'every_steps = 3\nmax_overhead = "none"\nwhen_busy = "wait"') as store:
        with checkpointer(store, Loop(), policy=None) as ckpt:
            assert ckpt.policy == castore.Policy(every_steps=3, max_overhead=None, when_busy="wait")
            assert committed_steps(ckpt, range(7)) == [0, 3, 6]
        with checkpointer(store, Loop(), policy={"steps": [8], "when_busy": "wait"}) as ckpt:
            assert ckpt.policy.every_steps is None
            assert committed_steps(ckpt, range(7, 13)) == [8]
        with checkpointer(store, Loop(), policy="lean") as ckpt:
            assert ckpt.policy == castore.Policy.lean()
        assert steps(store) == [0, 3, 6, 8]


def test_without_any_policy_the_first_step_is_committed(store: Store) -> None:
    with checkpointer(store, Loop(), policy=None) as ckpt:
        assert ckpt.policy == castore.Policy()
        assert ckpt.step(0)


def test_a_policy_that_castore_toml_has_wrong_is_refused_by_name(tmp_path: Path) -> None:
    with open_store(tmp_path, "every_step = 3") as store, pytest.raises(UsageError, match="'every_step'") as caught:
        checkpointer(store, Loop(), policy=None)
    assert "every_steps" in str(caught.value) and "\n" not in str(caught.value)


def test_another_policy_counts_from_the_next_step_on(store: Store) -> None:
    with checkpointer(store, Loop(), policy={"steps": [1], "when_busy": "wait"}) as ckpt:
        assert committed_steps(ckpt, range(4)) == [1]
        ckpt.policy = {"every_steps": 2, "max_overhead": "none", "when_busy": "wait"}  # type: ignore[assignment]
        assert committed_steps(ckpt, range(4, 8)) == [4, 6]
        with pytest.raises(UsageError, match="'often'"):
            ckpt.policy = "often"  # type: ignore[assignment]
        assert committed_steps(ckpt, range(8, 10)) == [8]
    assert steps(store) == [1, 4, 6, 8]


def test_another_policy_says_whether_sigterm_is_listened_to(store: Store) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with checkpointer(store, Loop()) as ckpt:
        assert signal.getsignal(signal.SIGTERM) == before
        ckpt.policy = castore.Policy(on_preemption=True)
        assert signal.getsignal(signal.SIGTERM) != before
        ckpt.policy = EVERY
        assert signal.getsignal(signal.SIGTERM) == before
        ckpt.policy = castore.Policy(on_preemption=True)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_commit_says_step_metrics_meta_and_tier(store: Store) -> None:
    with checkpointer(store, Loop(), meta={"config": "c1"}, tier="hot", branch="exp/1") as ckpt:
        ckpt.step(7, metrics={"loss": 0.5})
        ckpt.wait()
        ckpt.save(message="by hand")
    log = list(store.log("exp/1"))
    assert [(c.step, dict(c.metrics), c.tier, c.meta["config"]) for c in log] == [(7, {"loss": 0.5}, "hot", "c1")] * 2
    assert log[0].message == "by hand"


def test_names_and_objects_that_make_no_sense_are_refused_before_anything_is_begun(store: Store) -> None:
    with pytest.raises(RefNameError):
        checkpointer(store, Loop(), branch="a..b")
    with pytest.raises(UsageError, match="'rng'"):
        checkpointer(store, Loop(), rng={})
    with pytest.raises(UsageError, match="epoch: a int"):
        checkpointer(store, Loop(), epoch=3)
    assert store.branches() == {}


# SIGTERM and exceptions


def test_sigterm_commits_the_step_and_ends_the_process(tmp_path: Path) -> None:
    process = processes.start(
        training.main, str(tmp_path), str(tmp_path / "out"), "--steps=9", "--every=1000", "--terminate-at=5"
    )
    process.join()
    assert process.exitcode == 128 + signal.SIGTERM
    with castore.open(tmp_path) as store:
        assert steps(store) == [0, 5]
        assert store.show("main").message == "preempted"
        assert_sound(store)


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


# What can't be committed


@pytest.mark.parametrize("leaf", [lambda: 0, object()], ids=["lambda", "object"])
def test_a_leaf_without_a_safe_encoding_is_named_and_nothing_begun(store: Store, leaf: object) -> None:
    loop = Loop()
    notes: dict[str, Any] = {"hooks": []}
    with checkpointer(store, loop, notes=notes) as ckpt:
        ckpt.save(0, wait=True)
        before, tip = packs(store), store.resolve("main")
        notes["hooks"].append(leaf)
        with pytest.raises(StateError, match=r"notes\.hooks\.0") as caught:
            ckpt.save(1)
        assert "\n" not in str(caught.value)
        ckpt.wait()
        assert (packs(store), store.resolve("main")) == (before, tip)
        notes["hooks"].clear()
        ckpt.save(2)
    assert steps(store) == [0, 2]
    assert_sound(store)
    with pytest.raises(StateError, match=r"notes\.hook"):
        checkpointer(store, loop, notes={"hook": leaf})


def test_room_for_a_commit_is_asked_for_before_the_first_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    weights = sum(param.nbytes for param in loop.model.parameters())

    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**12, 0, free))

    disk(2 * weights - 1)  # and momentum is to come
    with pytest.raises(StorageError) as caught:
        checkpointer(store, loop)
    assert f"has {weights * 2 / 1e3:.3g} kB of free space" in str(caught.value)
    assert f"needs about {weights * 2 / 1e3:.3g} kB" in str(caught.value)
    assert "\n" not in str(caught.value)
    disk(2 * weights)
    with checkpointer(store, loop) as ckpt:
        ckpt.save(0, wait=True)
        for step in (1, 2):  # a branch whose commits add little needs little
            ckpt.save(step, wait=True)
    disk(weights)
    checkpointer(store, loop).close()
    disk(weights // 100)
    with pytest.raises(StorageError, match="free space"):
        checkpointer(store, loop)


# What it says


def test_each_commit_has_its_line(store: Store) -> None:
    loop, lines = Loop(), []
    with checkpointer(store, loop, report=lines.append) as ckpt:
        for step in (5, 6):
            loop.train()
            ckpt.step(step)
    assert [line.split(":")[1] for line in lines] == [" step 5", " step 6"]
    for line, commit in zip(lines, reversed(list(store.log("main"))), strict=True):
        assert commit.id[:8] in line and " new; loop stalled " in line and " s later" in line and "\n" not in line
        raw = sum(part.raw_bytes for part in commit.stats.components.values())
        assert f"{raw / 1e3:.3g} kB committed" in line
    lines.clear()
    with checkpointer(store, loop, report=lines.append) as ckpt:
        assert ckpt.resume() == 7
    assert len(lines) == 1 and "resumed main" in lines[0] and "step 6" in lines[0]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_lines_go_to_the_log(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made, lines_there, lines_logged in ((io.StringIO(), 0, 1), (Terminal(), 1, 0)):
        monkeypatch.setattr(sys, "stderr", made)
        with caplog.at_level(logging.INFO, "castore"), checkpointer(store, Loop(), report=None) as ckpt:
            ckpt.save(0)
        assert made.getvalue().count("committed as") == lines_there
        assert caplog.text.count("committed as") == lines_logged
        caplog.clear()
    monkeypatch.setattr(sys, "stderr", made := io.StringIO())
    for report, expected in ((True, 1), (False, 1)):
        with checkpointer(store, Loop(), report=report) as ckpt:
            ckpt.save(0)
        assert made.getvalue().count("committed as") == expected


def rows(text: str) -> list[str]:
    """What a terminal shows of a text: a carriage return goes back to the begin of the row, and what follows lies over
    what was there."""
    shown = []
    for line in text.split("\n"):
        row: list[str] = []
        for part in line.split("\r"):
            row[: len(part)] = part
        shown.append("".join(row).rstrip())
    return shown


def test_lines_do_not_tear_a_progress_bar(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm import tqdm

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with (
        checkpointer(store, Loop(), report=None) as ckpt,
        tqdm(total=5, desc="training", ncols=60, mininterval=0, file=sys.stderr) as bar,
    ):
        for step in range(5):
            ckpt.step(step)
            bar.update()
    found = [row for row in rows(screen.getvalue()) if row]
    lines = [row for row in found if "committed as" in row]
    assert len(lines) == 5
    assert all(row.startswith("castore: step ") and row.endswith(" s later") for row in lines)
    bars = [row for row in found if row not in lines]
    assert bars and all(row.startswith("training: ") and len(row) <= 60 for row in bars)
    assert "5/5" in bars[-1]


def test_the_share_that_commits_cost_is_known(store: Store) -> None:
    with checkpointer(store, Loop()) as ckpt:
        assert ckpt.overhead == 0
        for step in range(3):
            ckpt.step(step)
        assert 0 < ckpt.overhead <= 1


def test_on_another_thread_sigterm_is_said_not_to_be_heard(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def make() -> None:
        with pytest.warns(UserWarning, match="main thread"):
            checkpointer(store, Loop(), policy=castore.Policy(steps=[0])).close()

    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(make).result()
    assert signal.getsignal(signal.SIGTERM) == before
