"""What this process and all others leave of the processors: the seconds on its clocks, and on the system's."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

STAT = Path("/proc/stat")  # proc_stat(5)
_IDLE, _IOWAIT, _NICE = 3, 4, 1  # columns, behind a processor's name
_TOLD = 0.5  # of the seconds that pass, which a system that keeps these books accounts for at least


@dataclass(frozen=True, slots=True)
class Reading:
    """Seconds since any beginning: that passed, that this process's threads worked, and of the processors that it may
    use, all together, those that went by (total) and those in which they had nothing to do, or only what steps back
    for others (free). total stays 0.0 where the system keeps no such books."""

    wall: float
    used: float
    total: float = 0.0
    free: float = 0.0

    def __sub__(self, other: Reading) -> Reading:
        return Reading(self.wall - other.wall, self.used - other.used, self.total - other.total, self.free - other.free)

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.wall + other.wall, self.used + other.used, self.total + other.total, self.free + other.free)


@dataclass(frozen=True, slots=True)
class Shares:
    """Of the processors' time: what this process took, and what was free; None where the system does not say."""

    used: float
    free: float | None


def read() -> Reading:
    """The clocks, now."""
    return Reading(time.perf_counter(), time.process_time(), *_books())


def shares(passed: Reading, processors: int) -> Shares:
    """What became of so many processors' time while that much passed."""
    time_there = processors * max(passed.wall, 1e-9)
    told = passed.total >= _TOLD * time_there
    return Shares(passed.used / time_there, passed.free / passed.total if told else None)


def _books() -> tuple[float, float]:
    """(total, free), in seconds, of the processors that this process may use."""
    try:
        mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = [line.split() for line in STAT.read_text("ascii").splitlines()]
        rows = [[int(ticks) for ticks in row[1:9]] for row in lines if row and row[0] in mine]
        a_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):  # not on Linux
        return 0.0, 0.0
    free = sum(row[column] for row in rows for column in (_IDLE, _IOWAIT, _NICE) if column < len(row))
    return sum(map(sum, rows)) / a_second, free / a_second
