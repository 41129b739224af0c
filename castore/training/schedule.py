"""Asked at the end of each step: is a commit due?"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from castore.errors import UsageError
from castore.training.overhead import Overhead
from castore.training.policy import Policy


@dataclass(frozen=True, slots=True)
class Decision:
    """save: whether to commit now. reason: the triggers that say so; "" if not.

    deferred: the triggers that have come due and wait until the bound on overhead allows a commit, and how long that
    is; said once, and "" otherwise.
    """

    save: bool
    reason: str = ""
    deferred: str = ""


@dataclass(slots=True)
class _Due:
    reason: str
    step: int
    told: bool = False


class Schedule:
    """Applies a policy to a run.

    A trigger that has come due stays so until a commit is taken, for whatever reason: none is lost when the bound
    postpones it, when the commit fails, or when steps are numbered with gaps. The bound is `Overhead`'s.

    clock: seconds, from any beginning, that never go back.
    """

    def __init__(self, policy: Policy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._overhead = Overhead()
        self._due: dict[str, _Due] = {}  # by the setting of the policy that asks for a commit
        self._best: dict[tuple[str | None, bool], float] = {}
        self._step: int | None = None
        self._committed: float | None = None  # or when the run began

    @property
    def policy(self) -> Policy:
        """The policy. Another one can be put in its place at any time, and counts from the next step on.

        What is due stays so where the new policy has the same trigger.
        """
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        before, self._policy = self._policy, policy
        self._due = {
            name: due for name, due in self._due.items() if getattr(policy, name, None) == getattr(before, name, None)
        }

    @property
    def overhead(self) -> float:
        """The share of the run's time that commits have cost so far, 0 to 1."""
        return self._overhead.share(self._clock())

    @property
    def best(self) -> float | None:
        """The best value of the policy's metric; None before the first. To be set by a run that goes on."""
        return self._best.get(self._watched)

    @best.setter
    def best(self, value: float | None) -> None:
        self._best.pop(self._watched, None)
        if value is not None:
            self._best[self._watched] = value

    @property
    def _watched(self) -> tuple[str | None, bool]:
        return self._policy.metric, self._policy.higher_is_better

    def decide(self, step: int, metrics: Mapping[str, float], in_flight: bool, tiers: str = "") -> Decision:
        """Call at the end of every training step. in_flight: whether a commit is being written right now.
        tiers: those that have come due with this step, for people; "" for none.

        Where the answer is to save, take a commit and call `committed`. Raises UsageError when the metric that the
        policy watches is missing.
        """
        now = self._clock()
        if self._committed is None:
            self._committed = now
        self._overhead.step(now, in_flight)
        self._note_steps(step)
        self._note_time(step, now)
        self._note_metric(step, metrics)
        if tiers:
            self._add("tiers", tiers, step)
        self._step = step
        bound = self._policy.max_overhead
        wait_s = self._overhead.wait_s(now, bound) if bound is not None else 0.0
        if "steps" in self._due or (self._due and not wait_s):
            return Decision(True, "; ".join(_shown(due, step) for due in self._due.values()))
        if self._due:
            return Decision(False, deferred=self._postponed(wait_s))
        if bound is not None and not self._policy.has_trigger and not wait_s:
            return Decision(True, f"overhead bound of {bound:.3g}")
        return Decision(False)

    def committed(self, stall_s: float) -> None:
        """A commit was taken, for whatever reason. Call when the loop goes on.

        stall_s: seconds for which it stood still, waiting for commits before this one included.
        """
        now = self._clock()
        self._overhead.committed(now, stall_s, self._policy.max_overhead)
        self._committed = now
        self._due.clear()

    def skipped(self) -> None:
        """A commit that was due is left out. Its triggers wait for their next time, except for chosen steps."""
        self._due = {name: due for name, due in self._due.items() if name == "steps"}

    def _note_steps(self, step: int) -> None:
        # Steps that were passed over count too. After a step back, or at the first, only the step itself does.
        before = step - 1 if self._step is None or step < self._step else self._step
        chosen = tuple(self._policy.steps)
        if passed := chosen[bisect_right(chosen, before) : bisect_right(chosen, step)]:
            self._add("steps", f"step {passed[-1]} is chosen", step)
        every = self._policy.every_steps
        if every is not None and step // every > before // every:
            self._add("every_steps", "every step" if every == 1 else f"every {every} steps", step)

    def _note_time(self, step: int, now: float) -> None:
        every, since = self._policy.every_seconds, self._committed
        if every is not None and since is not None and now - since >= every:
            self._add("every_seconds", f"every {every:g} s", step)

    def _note_metric(self, step: int, metrics: Mapping[str, float]) -> None:
        name = self._policy.metric
        if name is None:
            return
        if name not in metrics:
            given = ", ".join(map(str, metrics)) or "none"
            raise UsageError(
                f"step {step} has no metric {name!r}, which the policy's `improved` watches; given: {given} "
                "(give NaN where it was not measured)"
            )
        value, best = float(metrics[name]), self.best
        if math.isnan(value):
            return
        if best is None or (value > best if self._policy.higher_is_better else value < best):
            self.best = value
            self._add("improved", f"{name} improved to {value:.6g}", step)

    def _add(self, trigger: str, reason: str, step: int) -> None:
        """A trigger that is due already keeps the step since which it is; its reason is the newest."""
        due = self._due.setdefault(trigger, _Due(reason, step))
        due.reason = reason

    def _postponed(self, wait_s: float) -> str:
        news = [due for due in self._due.values() if not due.told]
        if not news:
            return ""
        for due in news:
            due.told = True
        until = f"in about {wait_s:.3g} s" if math.isfinite(wait_s) else "as soon as it is known what commits cost"
        bound = f"max_overhead = {self._policy.max_overhead:.3g}"
        return f"{'; '.join(due.reason for due in news)}: {until}, to keep within {bound}"


def _shown(due: _Due, step: int) -> str:
    return due.reason if due.step == step else f"{due.reason} (due since step {due.step})"
