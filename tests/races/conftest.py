from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore import limits
from tests.crashes.explore import scratch


@pytest.fixture
def path(one_thread: None) -> Iterator[Path]:
    """A store in memory."""
    with scratch() as root:
        castore.open(Path(root) / ".castore", create=True).close()
        yield Path(root) / ".castore"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has to wait for the lock gives up at once."""
    monkeypatch.setattr(limits, "LOCK_TIMEOUT_S", 0.0)
    monkeypatch.setattr(limits, "ACCESS_WAIT_S", 0.0)
