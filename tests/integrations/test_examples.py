"""The examples of docs run as they stand, each as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import castore

ROOT = Path(__file__).parent.parent.parent


def run(name: str, directory: Path) -> str:
    """What an example prints; it must end well."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "docs" / "examples" / name), str(directory)]
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
