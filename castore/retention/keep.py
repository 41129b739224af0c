"""The rules that keep states. A new rule is a class here and a line in `castore.retention.registry`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.retention import amounts
from castore.retention.past import Sight, View

Chosen = Iterator[tuple[Commit, str]]  # what is kept, with a word on why where the rule alone does not say it


class KeepRule(ABC):
    """What a rule keeps depends on nothing but the history and the rule itself: so rules can only add to each other.

    text: what it was read from.
    """

    text: str

    @property
    def uses_time(self) -> bool:
        """Whether it goes by when commits were made."""
        return False

    def applies_to(self, commit: Commit) -> bool:
        """Whether a commit that no rule keeps is dropped by this one too."""
        return True

    @abstractmethod
    def chosen(self, view: View) -> Chosen:
        """What the rule keeps."""

    def check(self, view: View) -> Iterator[str]:
        """Warnings. Raises UsageError where the rule can't mean what it says."""
        return iter(())

    def check_kept(self, view: View, kept: Sequence[Commit]) -> Iterator[str]:
        """Warnings about all that is kept, by whatever rule."""
        return iter(())


class LineRule(KeepRule):
    """A rule that looks at each line by itself: what it keeps of a branch does not hang on other branches."""

    def chosen(self, view: View) -> Chosen:
        for line in view.lines:
            yield from self.of_line(line)

    @abstractmethod
    def of_line(self, line: Sight) -> Chosen:
        """What the rule keeps of one line."""


@dataclass(frozen=True, slots=True)
class KeepLast(LineRule):
    """The newest `count`."""

    text: str
    count: int

    def of_line(self, line: Sight) -> Chosen:
        return ((commit, "") for commit in line.commits[: self.count])


@dataclass(frozen=True, slots=True)
class KeepEvery(LineRule):
    """Those whose step is a multiple of `steps`."""

    text: str
    steps: int

    def of_line(self, line: Sight) -> Chosen:
        return ((one, "") for one in line.commits if one.step is not None and one.step % self.steps == 0)


@dataclass(frozen=True, slots=True)
class KeepWithin(LineRule):
    """Those that are at most `span` older than the newest."""

    text: str
    span: timedelta

    @property
    def uses_time(self) -> bool:
        return True

    def of_line(self, line: Sight) -> Chosen:
        return ((commit, "") for commit in line.timed if line.age(commit) <= self.span)


@dataclass(frozen=True, slots=True)
class KeepAccessed(KeepRule):
    """Those that were loaded at most `span` ago, or in the future: then a clock was wrong."""

    text: str
    span: timedelta

    def chosen(self, view: View) -> Chosen:
        for line in view.lines:
            for commit in line.commits:
                time = view.accessed.get(commit.id)
                if time is not None and view.now - time <= self.span:
                    yield commit, f"loaded on {time:%Y-%m-%d}"


@dataclass(frozen=True, slots=True)
class KeepPeriod(LineRule):
    """The newest of each of the last `count` periods that have any; in the time of who committed."""

    text: str
    period: str  # one of PERIODS
    count: int

    @property
    def uses_time(self) -> bool:
        return True

    def of_line(self, line: Sight) -> Chosen:
        seen: set[str] = set()
        for commit in line.timed:
            name = _PERIODS[self.period](commit.time)
            if name not in seen:
                if len(seen) == self.count:
                    return
                seen.add(name)
                yield commit, f"newest of {name}"


def _week(time: datetime) -> str:
    year, week, _ = time.isocalendar()
    return f"{year}-W{week:02d}"


_PERIODS: dict[str, Callable[[datetime], str]] = {
    "hourly": lambda time: f"{time:%Y-%m-%d %H}h",
    "daily": lambda time: f"{time:%Y-%m-%d}",
    "weekly": _week,
    "monthly": lambda time: f"{time:%Y-%m}",
    "yearly": lambda time: f"{time:%Y}",
}
PERIODS = tuple(_PERIODS)


@dataclass(frozen=True, slots=True)
class KeepBest(LineRule):
    """The best `count` by a metric; of equal ones the newest.

    Where no commit of a line has the metric, nothing says which of them is good: all are kept.
    """

    text: str
    metric: str
    sign: int  # 1: the lowest are best, -1: the highest
    count: int

    @classmethod
    def parse(cls, name: str, text: str) -> KeepBest:
        metric, _, rest = text.rpartition("=")
        direction, colon, number = rest.partition(":")
        if not metric or direction not in ("min", "max"):
            raise UsageError(f"{name} takes METRIC=min or METRIC=max, then :K for the best K, not {text!r}")
        return cls(text, metric, 1 if direction == "min" else -1, amounts.count(name, number) if colon else 1)

    def of_line(self, line: Sight) -> Chosen:
        if not self._measured(line):
            return ((commit, f"none of {line.name} has the metric {self.metric!r}") for commit in line.commits)
        having = [commit for commit in line.commits if self._has(commit)]
        having.sort(key=lambda commit: self.sign * commit.metrics[self.metric])
        return ((one, f"{self.metric} {one.metrics[self.metric]:.6g}") for one in having[: self.count])

    def check(self, view: View) -> Iterator[str]:
        lines = [line for line in view.lines if line.everything]
        without = [line.name for line in lines if not self._measured(line)]
        if lines and len(without) == len(lines):
            known = sorted({name for line in lines for commit in line.everything for name in commit.metrics})
            raise UsageError(
                f"--keep-best {self.text}: no commit has the metric {self.metric!r}; "
                + (f"there are: {', '.join(known[:20])}" if known else "none has any")
            )
        for name in without:
            yield f"no commit of {name} has the metric {self.metric!r}, so --keep-best {self.text} keeps all of it"

    def _measured(self, line: Sight) -> bool:
        return any(self._has(commit) for commit in line.everything)

    def _has(self, commit: Commit) -> bool:
        return not math.isnan(commit.metrics.get(self.metric, math.nan))


@dataclass(frozen=True, slots=True)
class KeepTier(LineRule):
    """Those that were committed with this tier."""

    text: str

    def of_line(self, line: Sight) -> Chosen:
        return ((commit, "") for commit in line.commits if commit.tier == self.text)

    def check(self, view: View) -> Iterator[str]:
        tiers = {commit.tier for line in view.lines for commit in line.everything}
        if tiers and self.text not in tiers:
            known = ", ".join(sorted(tier for tier in tiers if tier is not None)) or "none"
            raise UsageError(f"--keep-tier {self.text}: no commit has that tier; there are: {known}")
        return iter(())
