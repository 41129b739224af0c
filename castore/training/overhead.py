"""What commits cost a training loop, measured between its steps, and when the next one may be taken."""

from __future__ import annotations

import math
from collections import deque
from statistics import median, median_low

_RECENT_STEPS = 32  # steps of either kind that say how long one takes
_BASELINE_STEPS = 5  # steps without a commit in flight, before one with a commit can be compared with them
_FRESH_STEPS = 16  # and the newest of them is no older than this: steps change in the course of a run
_OUTLIER = 3.0  # a step counts for no longer than this many usual ones: it evaluated, or the machine slept
_UNSETTLED_STEPS = 4096  # durations that are kept until there is a baseline
_RECENT_COMMITS = 5
_FREAK = 4.0  # of one commit's cost, this many usual ones are paid before the next commit
_INSTALMENT = 1 / 32  # and of the rest, this share before each commit that follows


class Overhead:
    """Seconds that commits cost: while the loop stood still for them, and what steps took longer with one in flight.

    The second is the interference. A step with a commit in flight, at its begin or end, is compared with the mean of
    the recent steps without one. Outliers of either kind are cut to the same length, so that what lengthens steps now
    and then is not taken for the commits' doing.

    The bound: the cost since a commit began is paid by the time that follows it, `cost / time <= bound`, before the
    next may be taken. So over a run the costs stay within the bound's share of the time. There is none either until 5
    steps without a commit in flight were seen, one of them among the last 16: without them no interference is known.

    Nothing starves. What makes a commit cost more than 4 times the usual (the median of the last 5) is paid in
    instalments of 1/32 of what is owed. Whatever happened once, the next commit waits for no more than 4 usual costs
    and one instalment, and costs that have changed for good are the usual ones three commits later. Nothing is saved
    up either: time without commits does not let them come in a heap.

    What was committed in spite of the bound (chosen steps, the program's own) is settled when the next commit is taken.
    """

    def __init__(self) -> None:
        self._begin: float | None = None
        self._last_step: float | None = None
        self._stalled = 0.0  # since the last step's end
        self._in_flight = False
        self._clean: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._busy: deque[float] = deque(maxlen=_RECENT_STEPS)
        self._since_clean = 0
        self._unsettled: list[float] = []
        self._committed: float | None = None
        self._stall = 0.0  # this and the next: of what has been going on since the last commit
        self._interference = 0.0
        self._paid = 0.0  # costs of all before
        self._debt = 0.0
        self._costs: deque[float] = deque(maxlen=_RECENT_COMMITS - 1)

    def step(self, now: float, in_flight: bool) -> None:
        """A step ended. in_flight: whether a commit is now."""
        if self._last_step is None:
            self._begin = now if self._begin is None else self._begin
        else:
            seconds = max(0.0, now - self._last_step - self._stalled)
            if in_flight or self._in_flight:
                self._busy_step(seconds)
            else:
                self._clean_step(seconds)
        self._last_step, self._stalled, self._in_flight = now, 0.0, in_flight

    def committed(self, now: float, stall_s: float, bound: float | None) -> None:
        """A commit was taken, for which the loop stood still so long; it may be in flight from here on."""
        self._begin = now if self._begin is None else self._begin
        if self._committed is not None:
            cost = self._cost()
            gap = max(0.0, now - stall_s - self._committed)
            paid = max(self._due(), bound * gap) if bound is not None else math.inf
            self._debt = max(0.0, self._debt + cost - paid)
            self._costs.append(cost)
            self._paid += cost
        self._committed = now
        self._stall, self._interference = stall_s, 0.0
        self._stalled += stall_s
        self._in_flight = True

    def wait_s(self, now: float, bound: float) -> float:
        """Seconds until the bound allows the next commit: 0 when it does, infinity while the cost is not known yet."""
        if self._committed is None:
            return 0.0
        if self._busy and not self._has_baseline:
            return math.inf
        return max(0.0, self._committed + self._due() / bound - now)

    def share(self, now: float) -> float:
        """The costs so far as a share of the time since the first step's end, 0 to 1."""
        elapsed = now - self._begin if self._begin is not None else 0.0
        return min(1.0, (self._paid + self._cost()) / elapsed) if elapsed > 0 else 0.0

    @property
    def _has_baseline(self) -> bool:
        return len(self._clean) >= _BASELINE_STEPS and self._since_clean <= _FRESH_STEPS

    def _cost(self) -> float:
        return self._stall + max(0.0, self._interference)

    def _due(self) -> float:
        """What the time since the last commit has to pay for before there may be another."""
        cost = self._cost()
        usual = median_low([*self._costs, cost])
        return min(cost, _FREAK * usual) + self._debt * _INSTALMENT

    def _clean_step(self, seconds: float) -> None:
        self._clean.append(seconds)
        self._since_clean = 0
        if self._unsettled and self._has_baseline:
            self._interference += sum(map(self._excess, self._unsettled))
            self._unsettled.clear()

    def _busy_step(self, seconds: float) -> None:
        self._busy.append(seconds)
        self._since_clean += 1
        if len(self._clean) >= _BASELINE_STEPS:
            self._interference += self._excess(seconds)
        elif len(self._unsettled) < _UNSETTLED_STEPS:
            self._unsettled.append(seconds)

    def _excess(self, seconds: float) -> float:
        """How much longer a step took than those without a commit; less than 0 for one that was faster by chance."""
        longest = _OUTLIER * max(median(self._clean), median(self._busy))
        return min(seconds, longest) - sum(min(one, longest) for one in self._clean) / len(self._clean)
