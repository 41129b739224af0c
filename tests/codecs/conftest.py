"""Hypothesis' deadline is off here: the first example that needs a kernel compiles it."""

from __future__ import annotations

import pytest
from hypothesis import settings

from castore.codecs import choice
from castore.dtypes import by_name

settings.register_profile("codecs", deadline=None)
settings.load_profile("codecs")


@pytest.fixture(scope="session")
def warm() -> None:
    """A process that has met enough data to use every codec."""
    choice.choose(bytes(choice.WARM_BYTES), by_name("float32"), None)
