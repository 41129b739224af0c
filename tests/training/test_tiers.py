"""Which tier the commits of a loop are of, what goes into them, and going on from each."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import castore
from castore.errors import StateError, UsageError
from castore.retention.tiers import Tier
from castore.training.policy import Policy
from castore.training.resume import InexactResumeWarning
from castore.training.tiers import TierClock
from tests.tiered import tiered
from tests.training.small import EVERY, Loop, checkpointer, open_store

LEVELS = (Tier("low"), Tier("middle", every_steps=10), Tier("high", every_steps=100, every_seconds=50.0))
RARELY = Policy(steps=(10**9,), max_overhead=None, when_busy="wait", on_preemption=False)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_commit_is_of_the_highest_tier_that_is_due() -> None:
    clock = TierClock(LEVELS, Clock())
    found = []
    for step in range(201):
        clock.step(step)
        found.append(clock.chosen.name)
        clock.committed(clock.chosen)
    high = {100, 200}
    assert {step for step, name in enumerate(found) if name == "high"} == high | {0}
    assert {step for step, name in enumerate(found) if name == "middle"} == set(range(10, 201, 10)) - high


def test_what_is_due_waits_for_its_commit_and_a_higher_one_will_do() -> None:
    clock = TierClock(LEVELS, Clock())
    clock.committed(clock.chosen)
    clock.step(5)
    assert clock.chosen.name == "low"
    assert clock.step(10) == "tier middle, every 10 steps"
    for step in (11, 12):
        assert clock.step(step) == "" and clock.chosen.name == "middle"
    assert clock.step(100) == "tier middle, every 10 steps; tier high, every 100 steps"
    clock.committed(clock.chosen)
    assert clock.chosen.name == "low"
    clock.step(300)  # steps that were passed over count
    assert clock.chosen.name == "high"
    clock.committed(LEVELS[0])
    assert clock.chosen.name == "high"


def test_time_counts_from_the_tiers_own_last_commit() -> None:
    now = Clock()
    clock = TierClock(LEVELS, now)
    clock.step(1)
    for step in range(2, 9):
        now.now += 10
        clock.step(step)
        clock.committed(LEVELS[0])
        assert (clock.chosen.name == "high") == (now.now >= 50)
    clock.committed(clock.chosen)
    now.now += 49.9
    assert clock.step(9) == "" and clock.chosen.name == "low"
    now.now += 0.1
    assert clock.step(9) == "tier high, every 50 s" and clock.chosen.name == "high"


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60))
def test_a_tier_gets_a_commit_for_each_time_that_one_comes_after_its_step(steps: list[tuple[int, bool]]) -> None:
    clock, waits, before = TierClock(LEVELS[:2], Clock()), False, None
    for step, commits in steps:
        start = step - 1 if before is None or step < before else before
        waits = waits or step // 10 > start // 10
        before = step
        clock.step(step)
        assert (clock.chosen.name == "middle") == waits
        if commits:
            clock.committed(clock.chosen)
            waits = False


# In a Checkpointer


def run(store: castore.store.Store, steps: range, **settings: Any) -> Loop:
    loop = Loop(width=30)
    with checkpointer(store, loop, **settings) as ckpt:
        for step in steps:
            if step % 50 == 0:
                loop.train()
            ckpt.step(step, {"loss": 1.0})
    return loop


def test_300_steps_under_the_three_tiers_that_there_are_by_default(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        run(store, range(300), tier="auto", analysis={"seen": torch.arange(50)})
        tiers = {commit.step: commit.tier for commit in store.log()}
        assert len(tiers) == 300
        assert {step for step, tier in tiers.items() if tier == "archive"} == {0}
        assert {step for step, tier in tiers.items() if tier == "milestone"} == {100, 200}
        assert Counter(tiers.values())["recovery"] == 297
        for rev, whole in (("main", False), ("main:step=200", True), ("main:step=0", True)):
            assert ("analysis" in store.load(rev)) == whole
        store.prune()
        kept = {commit.step for commit in store.log() if commit.id not in store.drops()}
        assert kept == {0, 100, 200, *range(295, 300)}
        assert store.gc().removed_chunks > 0 and store.fsck().ok


def test_300_steps_with_every_tier_its_own_and_copies_of_the_archive(tmp_path: Path) -> None:
    tables = """
[tiers.recovery]
exclude = ["analysis"]
keep_last = 3
[tiers.milestone]
every_steps = 50
keep_last = 2
[tiers.archive]
every_steps = 150
exclude = ["analysis"]
directory = "copies"
"""
    open_store(tmp_path).close()
    with tiered(tmp_path, tables) as store:
        run(store, range(300), analysis={"seen": torch.arange(50)})
        tiers = {commit.step: commit.tier for commit in store.log()}
        assert {step for step, tier in tiers.items() if tier == "archive"} == {0, 150}
        assert {step for step, tier in tiers.items() if tier == "milestone"} == {50, 100, 200, 250}
        assert "optimizer" in store.load("main:step=150") and "analysis" in store.load("main:step=250")
        assert store.mirror().directories[0].copied == 2
        store.prune()
        assert {one.step for one in store.log() if one.id not in store.drops()} == {0, 150, 200, 250, 297, 298, 299}
    with castore.open(tmp_path / "copies") as second:
        assert [one.step for one in second.log("main") if one.id not in second.drops()] == [150, 0]
        assert second.fsck().ok


def test_a_tier_that_is_due_is_a_reason_to_commit(tmp_path: Path) -> None:
    with tiered(tmp_path, "[tiers.a]\nevery_steps = 7\n[tiers.b]\nevery_steps = 20") as store:
        run(store, range(1, 45), policy=RARELY)
        assert [(one.step, one.tier) for one in store.log()][::-1] == [
            *((7, "a"), (14, "a"), (20, "b"), (21, "a"), (28, "a"), (35, "a"), (40, "b"), (42, "a"))
        ]


def test_a_given_tier_is_that_of_each_commit_and_without_a_table_there_is_none(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.a]\nevery_steps = 2\n[tiers.b]\ninclude = ["model"]') as store:
        run(store, range(3), tier="b")
        assert {one.tier for one in store.log()} == {"b"} and store.load("main").keys() == {"model"}
        with pytest.raises(UsageError, match="no tier 'c'"):
            checkpointer(store, Loop(), tier="c")
    with open_store(tmp_path / "plain") as store:
        run(store, range(3))
        assert {one.tier for one in store.log()} == {None}


def test_a_table_that_cannot_be_read_is_told_before_the_first_step(tmp_path: Path) -> None:
    with tiered(tmp_path, "[tiers.a]\nevery_step = 2") as store, pytest.raises(UsageError, match="'every_step'"):
        checkpointer(store, Loop())


def test_a_run_goes_on_from_a_commit_of_any_tier(tmp_path: Path) -> None:
    """Also of one that leaves the optimizer out: what the lowest tier lets in goes into all."""
    tables = '[tiers.low]\nexclude = ["analysis"]\n[tiers.high]\nevery_steps = 5\ninclude = ["model"]'
    with tiered(tmp_path, tables) as store:
        loop = Loop()
        with checkpointer(store, loop, analysis={"x": 1}) as ckpt:
            for step in range(1, 6):
                loop.train()
                ckpt.step(step)
        assert store.show().tier == "high"
        other, analysis = Loop(seed=4), {"x": 2}
        with checkpointer(store, other, analysis=analysis) as ckpt:
            with pytest.warns(InexactResumeWarning, match="analysis: tier high leaves it out"):
                assert ckpt.resume() == 6
            assert analysis == {"x": 2}
            for mine, its in zip(other.model.parameters(), loop.model.parameters(), strict=True):
                assert torch.equal(mine, its)


def test_what_a_restart_needs_and_its_tier_left_out_is_an_error_that_says_so(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.low]\n[tiers.weights]\ninclude = ["model", "rng"]') as store:
        run(store, range(2), tier="weights")
        loop = Loop(width=30)
        before = loop.copy()
        with checkpointer(store, loop) as ckpt:
            with pytest.raises(StateError, match=r"optimizer.*its tier weights left out optimizer"):
                ckpt.resume()
            assert torch.equal(before["model"]["0.weight"], loop.model.state_dict()["0.weight"])
            with pytest.warns(InexactResumeWarning, match="optimizer"):
                assert ckpt.resume(strict=False) == 2


def test_a_run_goes_on_from_the_copy_of_a_lost_state(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.low]\n[tiers.high]\nevery_steps = 1\ndirectory = "copies"') as store:
        loop = run(store, range(1, 4))
        store.mirror()
        for path in (store.path / "packs").glob("*/*.pack"):
            path.unlink()
        store.repository.chunks.access.rebuild()
        other = Loop(seed=3, width=30)
        with checkpointer(store, other) as ckpt, warnings.catch_warnings():
            warnings.simplefilter("error", InexactResumeWarning)
            assert ckpt.resume() == 4
        for mine, its in zip(other.model.parameters(), loop.model.parameters(), strict=True):
            assert torch.equal(mine, its)


def test_the_process_that_makes_commits_makes_them_of_tiers_too(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.low]\nexclude = ["big"]\n[tiers.high]\nevery_steps = 2') as store:
        run(store, range(1, 4), worker="process", policy=EVERY, big={"x": torch.arange(30_000.0)})
        assert [(one.tier, "big" in store.load(one.id)) for one in store.log()][::-1] == [
            ("low", False),
            ("high", True),
            ("low", False),
        ]
        assert store.show().meta["left-out"] == "big"
