"""The training loop's door: policy, what is refused, room on the disk."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

import castore
from castore.errors import RefNameError, StateError, StorageError, UsageError
from castore.store import Store
from tests.samples import assert_sound, packs
from tests.training.small import EVERY, Loop, checkpointer, open_store, steps

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
    with pytest.raises(UsageError, match="epoch: a value of type int"):
        checkpointer(store, Loop(), epoch=3)
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
