"""A training loop on a clock that only it advances: steps, and commits that stall it and slow it down."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from castore.training.policy import Policy
from castore.training.schedule import Decision, Schedule


@dataclass(frozen=True)
class Costs:
    """Seconds: of a step, of the stall of a commit, of its time in flight. slowdown: factor on steps meanwhile."""

    step_s: float = 1.0
    stall_s: float = 0.5
    flight_s: float = 8.0
    slowdown: float = 1.2
    noise: float = 0.0  # standard deviation of a step, as a share of it


@dataclass
class Run:
    """A run so far. true_cost_s: what commits have really cost it, which the schedule can only measure."""

    policy: Policy
    costs: Costs
    seed: int = 0
    now: float = 100.0
    true_cost_s: float = 0.0
    step: int = 0
    commits: list[int] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.policy, lambda: self.now)
        self.random = random.Random(self.seed)
        self.lands = -1.0  # when the commit in flight is done
        self.begin = self.now

    def go(
        self, steps: int, costs: Callable[[Run], Costs] | None = None, metric: Callable[[Run], float] | None = None
    ) -> Run:
        """Train on. costs: those of the present step, by default the run's own. metric: "loss" of the step."""
        for _ in range(steps):
            self.step += 1
            now = costs(self) if costs is not None else self.costs
            self._train(now)
            given = {"loss": metric(self)} if metric is not None else {}
            decision = self.schedule.decide(self.step, given, self.now < self.lands)
            self.decisions.append(decision)
            if decision.save:
                self.commit(now)
        return self

    def commit(self, costs: Costs) -> None:
        wait = max(0.0, self.lands - self.now)  # one at a time
        self.now += wait + costs.stall_s
        self.true_cost_s += wait + costs.stall_s
        self.lands = self.now + costs.flight_s
        self.schedule.committed(wait + costs.stall_s)
        self.commits.append(self.step)

    def _train(self, costs: Costs) -> None:
        work = costs.step_s * max(0.1, self.random.gauss(1.0, costs.noise))
        slow = min(work * costs.slowdown, max(0.0, self.lands - self.now))  # time of the step with a commit in flight
        seconds = slow + work - slow / costs.slowdown
        self.true_cost_s += seconds - work
        self.now += seconds

    @property
    def true_overhead(self) -> float:
        return self.true_cost_s / (self.now - self.begin)
