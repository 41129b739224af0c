"""A shell to run castore in, and stores with and without a history."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.shell import InProcess


@pytest.fixture
def shell(tmp_path: Path) -> InProcess:
    """An empty directory to run castore in."""
    return InProcess(tmp_path)


@pytest.fixture
def store(shell: InProcess) -> InProcess:
    """A directory with an empty store."""
    shell.ok("init")
    return shell


def checkpoint(path: Path, seed: int = 0, elements: int = 4096) -> Path:
    """A small .pt whose weights depend on the seed."""
    generator = torch.Generator().manual_seed(seed)
    torch.save({"model": {"weight": torch.randn(elements, generator=generator), "bias": torch.zeros(16)}}, path)
    return path


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small .pt into the test's directory; seed: what its weights depend on, elements: how many."""

    def write(name: str = "model.pt", **what: int) -> Path:
        return checkpoint(tmp_path / name, **what)

    return write


@pytest.fixture(scope="session")
def history_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `history` copies: made once."""
    shell = InProcess(tmp_path_factory.mktemp("history"))
    shell.ok("init")
    for step in (1, 2, 3):
        path = checkpoint(shell.directory / "model.pt", seed=step)
        details = ("--step", str(step), "--metric", f"loss={1 / step}", "--meta", "run=a")
        shell.ok("commit", path, "-m", f"commit {step}", *details)
    shell.ok("tag", "v1.0", "main~1")
    return shell.directory


@pytest.fixture
def history(history_template: Path, shell: InProcess) -> InProcess:
    """A store with three commits of model.pt on main, of steps 1 to 3, and the tag v1.0 on the second."""
    shutil.copytree(history_template, shell.directory, dirs_exist_ok=True)
    return shell
