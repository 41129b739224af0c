"""What needs a CUDA device: `tools/test_cuda` runs it and fails where there is none; elsewhere it is not collected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from castore.store import Store
from tests.training.small import open_store

collect_ignore_glob = [] if torch.cuda.is_available() else ["test_*.py"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "store") as store:
        yield store
