"""How much a commit is worked on beside the loop: all that makes it small, or only what costs little."""

from __future__ import annotations

import time
from collections.abc import Callable

from castore.chunks import parallel
from castore.codecs.choice import FAST_WORTHWHILE, STANDALONE_WORTHWHILE
from castore.errors import UsageError

AUTO, FULL, FAST = EFFORTS = ("auto", "full", "fast")
_BUSY = 0.75  # of the processors' time: from here on what a commit takes, it takes from the loop


class Effort:
    """The effort of each commit of a run.

    "auto" is "fast" where the loop's own threads leave less than a quarter of the processors' time between two commits,
    as training on CPUs does; what the loop waits for a commit in between says nothing of it, and is left out. There
    nothing is beside the loop: coding a state would cost it seconds, which `castore repack` can spend later. A loop
    that trains on a GPU leaves most of its processors free.
    """

    def __init__(
        self,
        setting: str,
        processors: int | None = None,
        wall: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """processors: that this process may use; default: asked for. wall, used: seconds that passed, and that this
        process's threads spent on processors, each from any beginning.

        Raises UsageError for what is no effort.
        """
        if setting not in EFFORTS:
            raise UsageError(f"effort is 'auto', 'full' or 'fast', not {setting!r}")
        self._setting = setting
        self._processors = parallel.processors() if processors is None else processors
        self._clocks = wall, used
        self._wall, self._used = wall(), used()

    def waited(self, seconds: float) -> None:
        """The loop stood still for so long, until a commit was made."""
        self._wall += seconds

    def next(self) -> str:
        """ "full" or "fast", for the commit that is taken now."""
        wall, used = (clock() for clock in self._clocks)
        share = (used - self._used) / max(self._processors * (wall - self._wall), 1e-9)
        self._wall, self._used = wall, used
        if self._setting == AUTO:
            return FAST if share >= _BUSY else FULL
        return self._setting


def worthwhile(effort: str) -> float:
    """What of a chunk's raw size a codec has to get below to be used."""
    return FAST_WORTHWHILE if effort == FAST else STANDALONE_WORTHWHILE
