"""A run that was interrupted and went on in a new process is the run that never was: losses, weights, generators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = Path(__file__).with_name("loop.py")


def train(store: Path, out: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LOOP), str(store), str(out), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def run_in_two(tmp_path: Path, stop_after: int, *options: object) -> None:
    """Compare a run of all steps with one that ends after `stop_after` and goes on."""
    whole = train(tmp_path / "whole", tmp_path / "whole.txt", *options)
    assert whole.returncode == 0, whole.stderr
    first = train(tmp_path / "parts", tmp_path / "parts.txt", "--stop-after", stop_after, *options)
    assert first.returncode == 0, first.stderr
    second = train(tmp_path / "parts", tmp_path / "parts.txt", *options)
    assert second.returncode == 0, second.stderr
    assert "InexactResumeWarning" not in second.stderr
    expected = (tmp_path / "whole.txt").read_text().splitlines()
    assert (tmp_path / "parts.txt").read_text().splitlines() == expected
    assert expected[-1].startswith("end ")


@pytest.mark.parametrize("stop_after", [4, 12, 13], ids=["mid-epoch", "epoch's end", "second epoch"])
def test_stateful_dataloader(tmp_path: Path, stop_after: int) -> None:
    run_in_two(tmp_path, stop_after, "--steps", 20, "--noise")


def test_committed_by_a_process(tmp_path: Path) -> None:
    run_in_two(tmp_path, 4, "--steps", 8, "--worker", "process")


def test_between_two_steps_of_the_optimizer(tmp_path: Path) -> None:
    run_in_two(tmp_path, 5, "--steps", 12, "--micro", 3)
