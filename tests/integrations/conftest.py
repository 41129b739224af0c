"""A store for each test its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.open(tmp_path / "store", create=True) as store:
        yield store
