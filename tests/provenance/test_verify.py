"""A commit is verified in a process of its own: what is restored otherwise is named, and the step that diverges."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import castore
from castore.errors import CorruptError, DroppedError, ReplayError, UsageError
from castore.maintenance.verifying.verification import compared
from castore.store import Store
from castore.training.replay import replayed
from tests.cli.shell import InProcess
from tests.samples import packs, state
from tests.training.small import EVERY

LOOP = """
import sys, torch, castore

def build():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

def step_of(model, optimizer):
    loss = model(torch.randn(4, 8)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    return loss

def good(restore, steps):
    model, optimizer = build()
    print("what a user prints is no part of the answer")
    start = restore(model=model, optimizer=optimizer)
    for step in range(start, start + 10 * steps):
        yield step, step_of(model, optimizer)

def mapping(restore, steps):
    return dict(good(restore, steps))

def wrong(restore, steps):
    for step, loss in good(restore, steps):
        yield step, loss + (1e-4 if step >= 7 else 0)

def raises(restore, steps):
    yield from good(restore, 0)
    deeper()

def deeper():
    raise ValueError("no data\\nat all")

def leaves(restore, steps):
    sys.exit("enough")

def nothing(restore, steps):
    return None

def no_pairs(restore, steps):
    return [1.0, 2.0]

def short(restore, steps):
    yield from list(good(restore, 1))[:1]

def other(restore, steps):
    restore(model=torch.nn.Linear(3, 3), optimizer=torch.optim.SGD([torch.zeros(1)], lr=1.0))
"""


@pytest.fixture
def trained(shell: InProcess, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> InProcess:
    """A store of ten steps of the loop in train.py, each committed with its loss."""
    (shell.directory / "train_here.py").write_text(LOOP)
    namespace: dict[str, object] = {}
    exec(LOOP, namespace)
    torch.manual_seed(0)
    build, step_of = namespace["build"], namespace["step_of"]
    assert callable(build) and callable(step_of)
    model, optimizer = build()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with (
        castore.open(shell.directory, create=True) as store,
        castore.Checkpointer(
            store, policy=EVERY, worker="thread", report=False, model=model, optimizer=optimizer
        ) as ckpt,
    ):
        for step in range(10):
            ckpt.step(step, {"loss": step_of(model, optimizer).item(), "other": 1.0})
    return shell


def replay(function: str, steps: int = 5, rev: str = "main~5", *more: str) -> tuple[str, ...]:
    return ("verify", rev, "--replay", f"train_here:{function}", "--steps", str(steps), *more)


# Restoring


def test_a_sound_state_is_ok_and_the_time_is_noted(store: Store) -> None:
    made = store.commit({**state(1), "nan": math.nan, "big": 2**70, "none": None})
    report = store.verify()
    assert report.ok and report.problems == () and report.tensors == 4  # tied tensors are one
    assert report.raw_bytes == store.show().stats.total.raw_bytes
    noted = store.verifications()[made.id]
    assert noted.ok and noted.replay == ""
    again = store.verify(made.id)
    assert store.verifications()[made.id].time > noted.time and again.ok


def test_files_are_checked_byte_for_byte(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    torch.save(state(1), folder / "model.pt")
    (folder / "notes.txt").write_bytes(b"plain " * 40_000)
    store.commit_files([folder])
    report = store.verify()
    assert report.ok and report.tensors > 4
    assert report.raw_bytes == sum(path.stat().st_size for path in folder.iterdir())
    store.commit_files([folder / "model.pt"], branch="one")
    assert store.verify("one").ok


def test_what_retention_left_of_a_state_is_checked(store: Store, tmp_path: Path) -> None:
    first = store.commit(state(1))
    torch.save({"w": torch.randn(3000)}, tmp_path / "model.pt")
    torch.save({"w": torch.randn(3000)}, tmp_path / "optimizer.pt")
    files = store.commit_files([tmp_path / "model.pt", tmp_path / "optimizer.pt"])
    store.commit({"x": 1})
    store.prune({"drop_components": ["model.weight", "optimizer"]})
    store.gc()
    report = store.verify(first.id)
    assert report.ok and report.tensors == 3
    assert store.verify(files.id).ok
    store.prune({"keep_last": 1})
    with pytest.raises(DroppedError, match="nothing to verify"):
        store.verify(first.id)


def test_damage_is_a_problem_that_is_noted(history: InProcess, write_checkpoint: Callable[..., Path]) -> None:
    with castore.open(history.directory) as store:
        file = packs(store)[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    file.chmod(0o600)
    file.write_bytes(data)
    done = history.run("verify", "main~2")
    assert done.returncode == CorruptError.exit_code
    assert "error: " in done.stdout and "not ok" in done.stdout
    record = history.json("show", "main~2")["verified"]
    assert record["ok"] is False and record["problem"]
    assert "verified" in history.ok("show", "main~2")
    assert history.json("log")[0]["verified"] is None


def test_a_gc_forgets_commits_that_are_gone(store: Store) -> None:
    made = store.commit(state(1), branch="other")
    store.commit(state(2))
    store.verify(made.id)
    store.delete_branch("other", force=True)
    store.gc()
    assert store.verifications() == {}


# Replaying


def test_steps_that_are_run_again_have_the_same_losses(trained: InProcess) -> None:
    text = trained.process.ok(*replay("good"))
    assert "5 losses are the same bit for bit" in text and text.count("\n") == 8
    assert "a user prints" not in text
    record = trained.process.json(*replay("mapping", 3))
    assert [one["step"] for one in record["replay"]["compared"]] == [5, 6, 7]
    assert record["ok"] and record["replay"]["diverged"] is None and record["tensors"] > 6
    assert trained.json("show", "main~5")["verified"]["replay"] == "train_here:mapping, 3 steps"


def test_maintain_replays_from_the_newest_commit_with_so_many_steps_behind_it(trained: InProcess) -> None:
    record = trained.json("maintain", "--only", "verify", "--replay", "train_here:good", "--steps", "3")
    assert record["tasks"][0]["outcome"] == "done" and not record["tasks"][0]["unverified"]
    with castore.open(trained.directory) as store:
        noted = {store.show(one).step: found.replay for one, found in store.verifications().items()}
        last = store.show("main").step
        assert noted == {last: "", last - 3: "train_here:good, 3 steps"}
    again = trained.json("maintain", "--only", "verify", "--force", "--replay", "train_here:good", "--steps", "3")
    assert again["tasks"][0]["summary"] == "verified 0 tensors"  # both were, since it was last due
    done = trained.run("maintain", "--only", "verify", "--force", "--replay", "train_here:wrong", "--steps", "8")
    assert done.returncode == 9
    assert "does not verify" in done.stdout


def test_the_first_step_that_diverges_is_named_with_what_may_explain_it(trained: InProcess) -> None:
    done = trained.process.run(*replay("wrong"), env={"MKL_CBWR": "COMPATIBLE"})
    assert done.returncode == ReplayError.exit_code
    assert "the losses diverge at step 7" in done.stdout and "numerics MKL_CBWR" in done.stdout
    assert trained.json("show", "main~5")["verified"]["problem"] == "the replay diverges at step 7"
    record = trained.process.json(*replay("wrong", 5, "main~5", "--tolerance", "0.5"))
    assert record["ok"] and record["replay"]["tolerance"] == 0.5


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", r"raised ValueError at .*train_here\.py:\d+ \(from .*train_here\.py:\d+\): no data at all"),
        ("leaves", r"raised SystemExit at .*train_here\.py:\d+: enough"),
        ("nothing", "returned NoneType; let it yield"),
        ("no_pairs", "no pair of a step and its loss"),
        ("short", "too few"),
        ("other", "raised StateError at .*the state does not fit"),
        ("gone", "has no function 'gone'"),
    ],
)
def test_a_replay_function_that_fails_is_named_with_its_line(
    trained: InProcess, monkeypatch: pytest.MonkeyPatch, function: str, said: str
) -> None:
    monkeypatch.syspath_prepend(str(trained.directory))
    monkeypatch.delitem(sys.modules, "train_here", raising=False)
    with castore.open(trained.directory) as store, pytest.raises(ReplayError) as raised:
        found = replayed(store, store.show("main~5"), f"train_here:{function}", 5)
        assert len(found["losses"]) == 1  # of the function that gives too few: `verify` refuses it, below
        raise ReplayError("too few")
    assert re.search(said, str(raised.value))


@pytest.mark.parametrize(("function", "said"), [("raises", "ValueError"), ("short", "no loss for step 6")])
def test_it_is_an_error_of_one_line(trained: InProcess, function: str, said: str) -> None:
    done = trained.process.run(*replay(function))
    line = done.stderr.strip().splitlines()[-1]
    assert done.returncode == ReplayError.exit_code and line.startswith("castore: ") and "Traceback" not in done.stderr
    assert said in line
    assert done.stdout == ""


def test_a_replay_that_nothing_can_be_compared_with_is_refused_before_it_runs(trained: InProcess) -> None:
    for arguments, said in (
        (replay("good", 5, "main"), "no commit after"),
        (
            replay("good", 5, "main~5", "--metric", "accuracy"),
            "has a metric 'accuracy' to compare with; they have loss",
        ),
        (replay("good", 5, "main~5", "--branch", "nope"), "there is no branch 'nope'"),
        (("verify", "main~5", "--steps", "3"), "--replay and --steps go together"),
    ):
        assert said in trained.refused(UsageError.exit_code, *arguments)
    assert "no module 'nothing_here'" in trained.refused(
        ReplayError.exit_code, "verify", "main~5", "--replay", "nothing_here:f", "--steps", "2"
    )


def test_of_several_branches_one_must_be_meant(trained: InProcess) -> None:
    with castore.open(trained.directory) as store:
        for name in ("a", "b"):
            store.branch(name, "main~5")
            store.commit({"x": 1}, branch=name, step=9, metrics={"loss": 1.0})
    assert "is that of step 9: replay 5 steps or more" in trained.refused(
        2, *replay("good", 2, "main~5", "--branch", "a")
    )
    trained.ok("switch", "a")
    trained.ok("branch", "-D", "main")
    trained.ok("switch", "-c", "elsewhere", "a~1")
    assert "several branches lead on" in trained.refused(2, *replay("good", 5, "a~1"))


@given(st.floats(), st.floats(), st.floats(min_value=0, max_value=1))
def test_a_tolerance_allows_more_and_never_less(a: float, b: float, tolerance: float) -> None:
    (exact,) = compared({1: a}, {1: b}, None)
    (loose,) = compared({1: a}, {1: b}, tolerance)
    assert loose.same or not exact.same
    assert compared({1: a}, {1: a}, None)[0].same
    if math.isfinite(a) and math.isfinite(b):
        assert loose.same == (exact.same or abs(b - a) <= tolerance * abs(a))


def test_only_steps_that_both_have_are_compared() -> None:
    assert [one.step for one in compared({3: 1.0, 1: 1.0}, {1: 1.0, 2: 1.0, 3: 2.0}, None)] == [1, 3]
