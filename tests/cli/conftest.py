"""A shell to run castore in, and stores with and without a history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in an empty directory."""
    return Shell(tmp_path)


@pytest.fixture
def store(shell: Shell) -> Shell:
    """A shell in a directory with an empty store."""
    shell.ok("init")
    return shell


@pytest.fixture
def write_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small .pt whose tensors depend on the seed."""

    def write(name: str = "model.pt", seed: int = 0, elements: int = 4096) -> Path:
        generator = torch.Generator().manual_seed(seed)
        path = tmp_path / name
        torch.save({"model": {"weight": torch.randn(elements, generator=generator), "bias": torch.zeros(16)}}, path)
        return path

    return write


@pytest.fixture
def history(store: Shell, write_checkpoint: Callable[..., Path]) -> Shell:
    """A store with three commits on main, of steps 1 to 3, and a tag on the second."""
    for step in (1, 2, 3):
        path = write_checkpoint(seed=step)
        store.ok(
            "commit",
            path,
            "-m",
            f"commit {step}",
            "--step",
            str(step),
            "--metric",
            f"loss={1 / step}",
            "--meta",
            "run=a",
        )
    store.ok("tag", "v1.0", "main~1")
    return store
