"""Which tier the next commit of a loop is of: the highest that has come due since it last had one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from castore.repo import Repository
from castore.retention.tiers import AUTO, Tier


class TierClock:
    """Asked at each step. A tier that has come due stays so until it has its commit, or a higher one has had one."""

    def __init__(self, tiers: Sequence[Tier], clock: Callable[[], float] = time.monotonic) -> None:
        """tiers: from the lowest to the highest. clock: seconds, from any beginning, that never go back."""
        self._tiers = tiers
        self._clock = clock
        self._due: set[str] = set()
        self._since: dict[str, float] = {}  # when each had its last commit, or the run began
        self._step: int | None = None

    def step(self, step: int) -> str:
        """Call at the end of each step; returns what has come due now, for people: "" for nothing."""
        now = self._clock()
        before = step - 1 if self._step is None or step < self._step else self._step
        self._step = step
        fresh = []
        for tier in self._tiers:
            since = self._since.setdefault(tier.name, now)
            every = tier.every_steps
            by_steps = every is not None and step // every > before // every
            by_time = tier.every_seconds is not None and now - since >= tier.every_seconds
            if (by_steps or by_time) and (by_steps or tier.name not in self._due):
                fresh.append(
                    f"tier {tier.name}, every " + (f"{every} steps" if by_steps else f"{tier.every_seconds:g} s")
                )
                self._due.add(tier.name)
        return "; ".join(fresh)

    @property
    def chosen(self) -> Tier:
        """The tier of a commit that is made now: the highest that is due, else the lowest."""
        return next((tier for tier in reversed(self._tiers) if tier.name in self._due), self._tiers[0])

    def committed(self, tier: Tier) -> None:
        """A commit of a tier was begun."""
        now = self._clock()
        for one in self._tiers[: self._tiers.index(tier) + 1]:
            self._due.discard(one.name)
            self._since[one.name] = now


class LoopTiers:
    """The tiers of a Checkpointer's commits: a given one, the one that is due, or none."""

    def __init__(self, repo: Repository, tier: str | None) -> None:
        """tier: "auto": the one that is due; None: the same where castore.toml has tiers, else none.

        Raises UsageError for a tier that there is not, and for a table `[tiers]` that can't be read.
        """
        tiers = repo.tiers()
        self._lowest = tiers.lowest
        self._clock = TierClock(tiers.all) if tier == AUTO or (tier is None and tiers.given) else None
        self._named = None if self._clock is not None else tier
        self._given = tiers.named(self._named)

    def step(self, step: int) -> str:
        """Call at the end of each step; returns which tiers have come due now, for people: "" for none."""
        return self._clock.step(step) if self._clock is not None else ""

    @property
    def name(self) -> str | None:
        """The tier of a commit that is made now."""
        return self._clock.chosen.name if self._clock is not None else self._named

    @property
    def content(self) -> tuple[Tier, ...]:
        """What goes into it: what one of these lets in. Of the tiers that are due by themselves the lowest is always
        one, so that a run can go on from each of its commits."""
        if self._clock is not None:
            return self._lowest, self._clock.chosen
        return () if self._given is None else (self._given,)

    def committed(self) -> None:
        """A commit of the tier was begun."""
        if self._clock is not None:
            self._clock.committed(self._clock.chosen)
