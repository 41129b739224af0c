"""A store of small chunks, for each test its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from castore.store import Store
from tests.training.small import open_store


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """Each test of training computes with one thread."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store
