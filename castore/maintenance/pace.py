"""How long maintenance may go on, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """deadline: by `time.monotonic()`, after which no further batch begins; None for none. bytes_per_second: that are
    read and written, on the average; None for as many as there can be."""

    deadline: float | None = None
    bytes_per_second: float | None = None

    @classmethod
    def of(cls, seconds: float | None, bytes_per_second: float | None) -> Pace:
        """With the deadline so many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds, bytes_per_second)

    def is_over(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def rest(self, since: float, done_bytes: int) -> None:
        """Sleep after a batch that began at `since`, by `time.monotonic()`, if it was faster than it may be."""
        if self.bytes_per_second is not None:
            end = since + done_bytes / self.bytes_per_second
            if self.deadline is not None:
                end = min(end, self.deadline)
            time.sleep(max(0.0, end - time.monotonic()))


UNBOUND = Pace()
