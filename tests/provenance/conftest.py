"""A store for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.store import Store
from tests.cli.conftest import history, history_template, write_checkpoint
from tests.cli.shell import InProcess

__all__ = ["history", "history_template", "write_checkpoint"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.open(tmp_path / "runs", create=True) as store:
        yield store


@pytest.fixture
def shell(tmp_path: Path) -> InProcess:
    """An empty directory to run castore in."""
    return InProcess(tmp_path)
