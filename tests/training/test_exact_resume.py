"""A run that was interrupted and went on in a new process is the run that never was: losses, weights, generators."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

import castore
from tests import processes
from tests.training import loop


def train(store: Path, out: Path, *options: object) -> int | None:
    """Train in a new process; returns its exit code."""
    process = processes.start(loop.main, str(store), str(out), *map(str, options))
    process.join()
    return process.exitcode


def run_in_two(tmp_path: Path, interruption: tuple[object, ...], *options: object, code: int = 0) -> str:
    """Compare a run of all steps with one that is interrupted and goes on; returns what it was warned of then."""
    assert train(tmp_path / "whole", tmp_path / "whole.txt", *options) == 0
    assert train(tmp_path / "parts", tmp_path / "parts.txt", *interruption, *options) == code
    interrupted = (tmp_path / "parts.txt").read_text().splitlines()
    assert train(tmp_path / "parts", tmp_path / "parts.txt", *options) == 0
    expected = (tmp_path / "whole.txt").read_text().splitlines()
    assert 0 < len(interrupted) < len(expected) and interrupted == expected[: len(interrupted)]
    assert (tmp_path / "parts.txt").read_text().splitlines() == expected
    assert expected[-1].startswith("end ")
    return (tmp_path / "parts.warnings").read_text()


@pytest.mark.parametrize("last", [4, 12, 13], ids=["mid-epoch", "epoch's end", "second epoch"])
@pytest.mark.parametrize("loader", ["stateful", "sampler"])
def test_shuffled_data_with_noise_drawn_in_the_loop(tmp_path: Path, loader: str, last: int) -> None:
    assert run_in_two(tmp_path, ("--stop-after", last), "--steps", 20, "--loader", loader, "--noise") == ""


@pytest.mark.parametrize("loader", ["stateful", "sampler"])
def test_loaders_with_workers(tmp_path: Path, loader: str) -> None:
    warned = run_in_two(tmp_path, ("--stop-after", 15), "--steps", 20, "--loader", loader, "--workers", 2)
    assert warned.count("\n") == 1 and "worker" in warned  # this data draws nothing there, but another may


def test_noise_drawn_in_workers_by_replay(tmp_path: Path) -> None:
    options = ("--steps", 10, "--loader", "sampler", "--workers", 2, "--noise")
    assert run_in_two(tmp_path, ("--stop-after", 4), *options) == ""


def test_committed_by_a_process(tmp_path: Path) -> None:
    assert run_in_two(tmp_path, ("--stop-after", 4), "--steps", 8, "--worker", "process") == ""


def test_between_two_steps_of_the_optimizer(tmp_path: Path) -> None:
    assert run_in_two(tmp_path, ("--stop-after", 5), "--steps", 12, "--micro", 3) == ""


def test_terminated(tmp_path: Path) -> None:
    options = ("--steps", 9, "--every", 1000)
    assert run_in_two(tmp_path, ("--terminate-at", 5), *options, code=128 + signal.SIGTERM) == ""
    with castore.open(tmp_path / "parts") as store:
        assert [(commit.step, commit.message) for commit in store.log("main")] == [(5, "preempted"), (0, "")]


def test_what_a_plain_loader_loses_is_said(tmp_path: Path) -> None:
    options = ("--loader", "plain", "--steps", 6)
    assert train(tmp_path / "runs", tmp_path / "out.txt", "--stop-after", 3, *options) == 0
    assert train(tmp_path / "runs", tmp_path / "out.txt", *options) == 0
    warned = (tmp_path / "out.warnings").read_text()
    assert warned.count("\n") == 1 and "ResumableSampler" in warned
