"""The examples of docs run as they stand, each as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import castore

ROOT = Path(__file__).parent.parent.parent


def run(name: str, directory: Path, *more: str) -> str:
    """What an example prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "docs" / "examples" / name), str(directory), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def steps(directory: Path) -> list[int | None]:
    with castore.open(directory) as store:
        return [commit.step for commit in store.log("main")]


def test_training_loop(tmp_path: Path) -> None:
    printed = run("training_loop.py", tmp_path / "run")
    same = "losses of steps 61 to 119: bit for bit the same\nweights at the end: bit for bit the same\n"
    assert printed.endswith(same)
    assert "castore: resumed main from" in printed
    assert steps(tmp_path / "run") == [100, 80, 60, 40, 20, 0]
    assert steps(tmp_path / "run" / "whole") == [100, 80, 60, 40, 20, 0]


def test_lightning_fit(tmp_path: Path) -> None:
    printed = run("lightning_fit.py", tmp_path / "run")
    assert "to a model of width 32" in printed
    assert steps(tmp_path / "run") == [40, 32, 24, 16, 8]


def test_transformers_trainer(tmp_path: Path) -> None:
    printed = run("transformers_trainer.py", tmp_path / "run")
    assert printed.endswith("on disk, besides the store: checkpoint-15\n")
    assert steps(tmp_path / "run") == [15, 10, 5]


def test_accelerate_loop(tmp_path: Path) -> None:
    printed = run("accelerate_loop.py", tmp_path / "run")
    assert printed.endswith("interrupted at 12: the same\n")
    assert steps(tmp_path / "run") == [20, 15, 10, 5]


def test_replay(tmp_path: Path) -> None:
    run("replay.py", tmp_path / "run")
    command = [sys.executable, "-m", "castore", "-C", str(tmp_path / "run"), "verify", "main~5"]
    command += ["--replay", "replay:replay", "--steps", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    examples = ROOT / "docs" / "examples"
    done = subprocess.run(command, cwd=examples, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "5 losses are the same bit for bit" in done.stdout


def test_lifecycle(tmp_path: Path) -> None:
    printed = run("lifecycle.py", tmp_path / "run", "32")
    assert "for 340 states, of 340 commits" in printed
    assert "the curve is whole: 300 losses" in printed
    with castore.open(tmp_path / "run") as store:
        kept = [commit.step for commit in store.log("main") if commit.id not in store.drops()]
        # The last five, ten milestones, those of the ten of the other branch that lie here, what was archived, and
        # where the fine-tune began.
        milestones = {290, 280, 270, 260, 250, 240, 230, 220, 210, 190, 140, 130, 120, 110, 90, 80}
        assert kept == sorted({299, 298, 297, 296, 295, *milestones, 200, 100, 149, 0}, reverse=True)
        assert store.fsck().ok
    with castore.open(tmp_path / "run" / "archive") as archive:
        assert [commit.step for commit in archive.log("main") if commit.id not in archive.drops()] == [200, 100, 0]
