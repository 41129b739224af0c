"""How much a commit is worked on beside the loop: all that makes it small, or only what costs little."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from castore.chunks import parallel
from castore.errors import UsageError
from castore.operations.effort import FAST, FULL
from castore.training import processors
from castore.training.processors import Reading

AUTO = "auto"
EFFORTS = (AUTO, FULL, FAST)
_BUSY = 0.75  # of the processors' time: from here on what a commit takes, it takes from the loop
_STILL_BUSY = 0.6  # below which that is over: at the edge, one commit in five would load kernels and code all it finds


class Effort:
    """The effort of each commit of a run.

    "auto" is "fast" where less than a quarter of the processors' time is left between two commits, by the loop's own
    threads (those that make its commits too), as training on CPUs does, or by all that is at work, as where other
    processes load a loop's data; what the loop waits for a commit in between says nothing of it, and is left out. There
    nothing is beside the loop: coding a state would cost it seconds, which `castore repack` can spend later. It stays
    fast until two fifths are left. A loop that trains on a GPU leaves most of its processors free.
    """

    def __init__(self, setting: str, count: int | None = None, read: Callable[[], Reading] = processors.read) -> None:
        """count: of processors that this process may use; default: asked for. read: the clocks.

        Raises UsageError for what is no effort.
        """
        if setting not in EFFORTS:
            raise UsageError(f"effort is 'auto', 'full' or 'fast', not {setting!r}")
        self._setting = setting
        self._count = parallel.processors() if count is None else count
        self._read = read
        self._before = read()
        self._busy = False

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """The loop stands still until a commit is made: time that is not looked at."""
        begun = self._read()
        yield
        self._before += self._read() - begun

    def next(self) -> str:
        """ "full" or "fast", for the commit that is taken now."""
        if self._setting != AUTO:
            return self._setting
        before, self._before = self._before, self._read()
        share = processors.shares(self._before - before, self._count)
        limit = _STILL_BUSY if self._busy else _BUSY
        self._busy = share.used >= limit or (share.free is not None and share.free < 1 - limit)
        return FAST if self._busy else FULL
