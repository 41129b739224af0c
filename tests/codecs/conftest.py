"""What tests of codecs set up."""

from __future__ import annotations

import pytest

from castore.codecs import choice
from castore.dtypes import by_name


@pytest.fixture(scope="session")
def warm() -> None:
    """A process that has met enough data to use every codec."""
    choice.choose(bytes(choice.WARM_BYTES), by_name("float32"), None)
