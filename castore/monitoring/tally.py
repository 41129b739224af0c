"""Sums over events, such that those of two spans of time add up: what a counter of Prometheus has to be. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TOTALS = "totals"  # the kind of the event that holds the sums over all events before it

# Upper bounds in seconds: from a stall that nobody notices to a night of maintenance.
BOUNDS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

# The numbers of an event that are distributions, and those that are sums: "KIND.FACT". Of a task both are by its name.
_TIMES = ("commit.seconds", "commit.stall", "restore.seconds", "task.seconds")
_AMOUNTS = ("commit.bytes", "restore.bytes", "task.bytes")
_LABELS = {"task": "task", "restore": "how", "failure": "of", "alert": "of"}  # the fact that tells events apart


@dataclass(slots=True)
class Times:
    """A distribution. counts: of values up to each of `BOUNDS` and above the one before, and of those above all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One value more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


@dataclass(slots=True)
class Tally:
    """times, amounts: by "KIND.FACT" and the label, "" for none. counts: of events, by kind and label. lost: how many
    events could not be written."""

    times: dict[tuple[str, str], Times] = field(default_factory=dict)
    amounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: int = 0

    def add(self, kind: str, facts: Mapping[str, Any]) -> None:
        """One event more. What it does not tell, or tells wrongly, is passed over."""
        label = facts.get(_LABELS.get(kind, ""), "")
        if not isinstance(label, str):
            return
        self.counts[kind, label] += 1
        self.lost += int(_number(facts.get("lost")) or 0)
        for name, value in facts.items():
            number = _number(value)
            if number is None:
                continue
            if f"{kind}.{name}" in _TIMES:
                self.times.setdefault((f"{kind}.{name}", label), Times()).add(number)
            elif f"{kind}.{name}" in _AMOUNTS:
                self.amounts[f"{kind}.{name}", label] += int(number)

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        sums = Tally({}, self.amounts + other.amounts, self.counts + other.counts, self.lost + other.lost)
        for key in {**self.times, **other.times}:
            a, b = self.times.get(key, Times()), other.times.get(key, Times())
            sums.times[key] = Times([x + y for x, y in zip(a.counts, b.counts, strict=True)], a.seconds + b.seconds)
        return sums

    def facts(self) -> dict[str, Any]:
        """Itself as the facts of an event; `of_facts` reads them."""
        return {
            "times": [[*key, one.seconds, *one.counts] for key, one in self.times.items()],
            "amounts": [[*key, amount] for key, amount in self.amounts.items()],
            "counts": [[*key, count] for key, count in self.counts.items()],
            "lost": self.lost,
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Tally | None:
        """The sums that an event holds, or None where it is damaged."""
        tally = cls()
        try:
            for name, label, seconds, *counts in facts["times"]:
                if (
                    not math.isfinite(seconds)
                    or len(counts) != len(BOUNDS) + 1
                    or not all(type(one) is int and one >= 0 for one in counts)
                ):
                    return None
                tally.times[str(name), str(label)] = Times(counts, float(seconds))
            for target, rows in ((tally.amounts, facts["amounts"]), (tally.counts, facts["counts"])):
                target.update({(str(name), str(label)): int(amount) for name, label, amount in rows})
            tally.lost = int(facts["lost"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return tally


def _number(value: Any) -> float | None:
    """A number from 0 on; None for anything else."""
    if type(value) not in (int, float):
        return None
    try:
        return float(value) if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None
