from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crashes.explore import scratch


@pytest.fixture
def memory(one_thread: None) -> Iterator[Path]:
    """A directory in memory."""
    with scratch() as root:
        yield Path(root)
