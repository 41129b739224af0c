"""A store of small chunks, for each test its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from castore.store import Store
from tests.training.small import open_store


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So little arithmetic is not worth more, least of all with other tests beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path) as store:
        yield store
