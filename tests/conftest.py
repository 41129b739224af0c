"""What tests of several folders set up."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# No assertion is timed: another process takes the processor when it likes, and the first use of a kernel compiles it.
settings.register_profile("castore", deadline=None)
settings.load_profile("castore")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """So little arithmetic is not worth more, least of all with other tests beside it."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so does all that it starts in turn, but for this."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
