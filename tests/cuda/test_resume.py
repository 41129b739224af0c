"""A run on a GPU that was interrupted and went on in a new process is the run that never was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda import loop

ROOT = Path(__file__).parents[2]


def train(store: Path, out: Path, stop_after: int, kind: str, worker: str) -> None:
    arguments = [str(store), str(out), "16", str(stop_after), kind, worker]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-m", loop.__name__, *arguments], check=True, cwd=ROOT, env=environment)


@pytest.mark.parametrize(("kind", "worker"), [("fused", "process"), ("capturable", "thread"), ("foreach", "process")])
def test_losses_weights_optimizer_scaler_and_generators_are_the_same(tmp_path: Path, kind: str, worker: str) -> None:
    train(tmp_path / "whole", tmp_path / "whole.txt", -1, kind, worker)
    train(tmp_path / "parts", tmp_path / "parts.txt", 7, kind, worker)
    train(tmp_path / "parts", tmp_path / "parts.txt", -1, kind, worker)
    lines = (tmp_path / "whole.txt").read_text().splitlines()
    assert len(lines) == 17
    assert (tmp_path / "parts.txt").read_text().splitlines() == lines
