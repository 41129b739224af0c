"""When a schedule says to commit: triggers, and the bound on what commits may cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore.errors import UsageError
from castore.training.policy import Policy
from castore.training.schedule import Schedule
from tests.training.run import Costs, Run

FREE = Costs(stall_s=0.0, flight_s=0.0)
UNBOUND = Policy(every_steps=1, max_overhead=None)

costs = st.builds(
    Costs,
    step_s=st.floats(0.01, 10),
    stall_s=st.floats(0, 1),
    flight_s=st.floats(0, 1),
    slowdown=st.sampled_from([1.0, 1.05, 1.5, 4.0]),
    noise=st.sampled_from([0.0, 0.02, 0.1]),
).map(lambda c: replace(c, stall_s=c.stall_s * 5 * c.step_s, flight_s=c.flight_s * 20 * c.step_s))


# Triggers


@given(every=st.integers(1, 50), steps=st.integers(1, 300), what=costs)
def test_every_steps_without_a_bound_fires_on_its_multiples_and_nowhere_else(
    every: int, steps: int, what: Costs
) -> None:
    run = Run(Policy(every_steps=every, max_overhead=None), what).go(steps)
    assert run.commits == list(range(every, steps + 1, every))
    assert {d.reason for d in run.decisions if d.save} <= {f"every {every} steps", "every step"}
    assert all(not d.deferred for d in run.decisions)


def test_a_multiple_that_the_numbering_passes_over_fires_at_the_next_step() -> None:
    now = 0.0
    schedule = Schedule(Policy(every_steps=100, max_overhead=None), lambda: now)
    fired = []
    for step in (0, 64, 128, 192, 256, 320, 1000, 1001):
        if schedule.decide(step, {}, False).save:
            schedule.committed(0.0)
            fired.append(step)
    assert fired == [0, 128, 256, 320, 1000]


def test_a_run_that_goes_on_does_not_owe_the_multiples_before_it() -> None:
    schedule = Schedule(Policy(every_steps=100, steps=[50], max_overhead=None), lambda: 0.0)
    assert not schedule.decide(750, {}, False).save


def test_every_seconds_counts_from_the_last_commit_whatever_made_it() -> None:
    run = Run(Policy(every_seconds=10, steps=[25], max_overhead=None), FREE).go(60)
    assert run.commits == [11, 21, 25, 35, 45, 55]
    assert run.decisions[10].reason == "every 10 s"


@given(chosen=st.sets(st.integers(1, 400), max_size=20), what=costs, bound=st.sampled_from([None, 1e-6, 0.5]))
def test_chosen_steps_always_fire_whatever_commits_cost(chosen: set[int], what: Costs, bound: float | None) -> None:
    policy = Policy(steps=chosen, every_steps=7, max_overhead=bound)
    run = Run(policy, what).go(400)
    assert chosen <= set(run.commits)
    for step in chosen:
        assert f"step {step} is chosen" in run.decisions[step - 1].reason


def test_a_metric_fires_when_it_is_better_than_ever_and_never_for_nan() -> None:
    losses = [3.0, math.nan, 2.0, 2.0, 2.5, math.nan, 1.23, math.inf]
    low = Run(Policy(improved="loss", max_overhead=None), FREE).go(8, metric=lambda run: losses[run.step - 1])
    assert low.commits == [1, 3, 7]
    assert low.decisions[6].reason == "loss improved to 1.23"
    high = Run(Policy(improved="loss:max", max_overhead=None), FREE).go(8, metric=lambda run: losses[run.step - 1])
    assert high.commits == [1, 8]


def test_a_run_that_goes_on_can_be_told_its_best() -> None:
    schedule = Schedule(Policy(improved="loss", max_overhead=None), lambda: 0.0)
    assert schedule.best is None
    schedule.best = 2.0
    assert not schedule.decide(1, {"loss": 2.5}, False).save
    assert schedule.decide(2, {"loss": 1.5}, False).save
    assert schedule.best == 1.5


def test_a_missing_metric_is_refused_with_those_that_are_there() -> None:
    schedule = Schedule(Policy(improved="val_loss"), lambda: 0.0)
    with pytest.raises(UsageError, match=r"step 7 has no metric 'val_loss'.*given: loss, lr"):
        schedule.decide(7, {"loss": 1.0, "lr": 0.1}, False)
    with pytest.raises(UsageError, match="given: none"):
        schedule.decide(7, {}, False)


# What is due stays due


@given(
    every=st.integers(1, 30),
    what=costs,
    bound=st.sampled_from([0.01, 0.1, 0.5]),
    best_at=st.sets(st.integers(1, 1500), max_size=10),
)
@settings(max_examples=25)
def test_no_trigger_is_lost_and_each_deferral_is_told_once(
    every: int, what: Costs, bound: float, best_at: set[int]
) -> None:
    policy = Policy(every_steps=every, improved="loss", max_overhead=bound)
    run = Run(policy, what)
    run.go(1500, metric=lambda run: -run.step if run.step in best_at else math.nan)
    due: set[str] = set()
    told: set[str] = set()
    for step, decision in enumerate(run.decisions, start=1):
        if step % every == 0:
            due.add("every")
        if step in best_at:
            due.add("loss improved")
        assert not (decision.save and not due)
        if decision.save:
            assert all(name in decision.reason for name in due)
            due, told = set(), set()
        else:
            news = {name for name in due if name in decision.deferred}
            assert not news & told
            told |= news
            assert told == due
    if due:  # what is pending at the end fires as soon as the bound allows it
        long = replace(what, step_s=100 * what.step_s)
        run.go(2000, costs=lambda _: long, metric=lambda _: math.nan)
        assert run.commits[-1] > 1500


def test_a_deferred_commit_says_since_when_it_was_due() -> None:
    run = Run(Policy(every_steps=50, max_overhead=0.01), Costs(stall_s=1.0, flight_s=0.0)).go(400)
    assert run.commits == [50, 150, 250, 350]
    assert run.decisions[149].reason == "every 50 steps (due since step 100)"
    assert run.decisions[99].deferred == "every 50 steps: in about 50 s, to keep within max_overhead = 0.01"


def test_a_trigger_stays_due_until_a_commit_is_taken_or_skipped() -> None:
    schedule = Schedule(Policy(every_steps=10, steps=[25], max_overhead=None), lambda: 0.0)
    assert schedule.decide(10, {}, False).save
    assert schedule.decide(11, {}, True).save
    schedule.skipped()
    assert not schedule.decide(12, {}, True).save
    assert schedule.decide(25, {}, False).reason == "step 25 is chosen; every 10 steps"
    schedule.skipped()
    assert schedule.decide(26, {}, False).reason == "step 25 is chosen (due since step 25)"
    schedule.committed(0.0)
    assert not schedule.decide(27, {}, False).save


# The bound


@given(what=costs, bound=st.sampled_from([0.01, 0.035, 0.1]), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_commits_cost_no_more_than_the_bound_over_a_run(what: Costs, bound: float, seed: int) -> None:
    run = Run(Policy(max_overhead=bound), what, seed).go(4000)
    one = what.stall_s + what.flight_s  # the last one's cost is not paid yet
    assert run.true_overhead <= 1.1 * bound + one / (run.now - run.begin)
    assert run.commits[0] == 1


@given(bound=st.sampled_from([0.01, 0.035, 0.1]), seed=st.integers(0, 1000))
@settings(max_examples=6)
def test_the_bound_holds_when_costs_are_wild(bound: float, seed: int) -> None:
    """Stalls whose mean is many times their median: the debts of the rare long ones are paid all the same."""
    run = Run(Policy(max_overhead=bound), Costs(step_s=1.0, flight_s=2.0, slowdown=1.1, noise=0.02), seed)
    run.go(20_000, costs=lambda run: replace(run.costs, stall_s=min(0.02 * run.random.paretovariate(1.1), 20.0)))
    assert run.true_overhead <= 1.15 * bound + 20 / (run.now - run.begin)


def test_the_bound_is_used_up_where_nothing_else_asks() -> None:
    run = Run(Policy(max_overhead=0.05), Costs(stall_s=0.5, flight_s=10, slowdown=1.3)).go(20_000)
    assert run.true_overhead == pytest.approx(0.05, rel=0.05)
    assert run.schedule.overhead == pytest.approx(run.true_overhead, rel=0.02)
    assert {d.reason for d in run.decisions if d.save} == {"overhead bound of 0.05"}


def test_slower_steps_beside_a_commit_are_part_of_its_cost() -> None:
    """No stall at all: without interference there would be a commit as soon as one can be compared."""
    still = Run(Policy(max_overhead=0.01), Costs(stall_s=0.0, flight_s=10, slowdown=1.0)).go(4000)
    slowed = Run(Policy(max_overhead=0.01), Costs(stall_s=0.0, flight_s=10, slowdown=1.5)).go(4000)
    assert len(still.commits) > 5 * len(slowed.commits)
    assert slowed.true_overhead <= 0.011


def test_long_steps_that_have_nothing_to_do_with_commits_are_not_their_cost() -> None:
    """Each 20th step evaluates and takes 30 times as long, with a commit in flight or without."""
    run = Run(Policy(max_overhead=0.05), Costs(stall_s=0.2, flight_s=10, slowdown=1.0))
    run.go(20_000, costs=lambda run: replace(run.costs, step_s=30.0 if run.step % 20 == 0 else 1.0))
    assert run.schedule.overhead == pytest.approx(run.true_overhead, abs=0.02)
    assert run.true_overhead > 0.015


def test_it_adapts_when_storage_becomes_slow_and_when_it_recovers() -> None:
    fast, slow = Costs(stall_s=0.2, flight_s=2.0), Costs(stall_s=5.0, flight_s=50.0)
    run = Run(Policy(max_overhead=0.05), fast).go(5000)
    run.go(10_000, costs=lambda _: slow)
    before = len(run.commits)
    begin, cost = run.now, run.true_cost_s
    run.go(10_000, costs=lambda _: slow)
    assert (run.true_cost_s - cost) / (run.now - begin) <= 0.055
    assert len(run.commits) - before > 20
    run.go(2000)
    before = len(run.commits)
    run.go(5000)
    assert len(run.commits) - before > 0.9 * len([c for c in run.commits if c <= 5000])


def test_one_commit_that_took_for_ever_does_not_starve_those_after_it() -> None:
    usual = Costs(stall_s=0.5, flight_s=0.0)
    run = Run(Policy(max_overhead=0.05), usual).go(1000)
    run.commit(replace(usual, stall_s=600.0))  # the bound's share of more than 3 hours
    freak = run.step
    run.go(40_000)
    later = [step for step in run.commits if step > freak]
    assert later[0] - freak <= 4 * 0.5 / 0.05 + 1
    assert later[1] - later[0] <= (0.5 + 600 / 32) / 0.05 + 1
    assert later[-1] - later[-2] < 15
    assert run.true_overhead <= 0.052


def test_what_was_committed_in_spite_of_the_bound_leaves_no_debt() -> None:
    policy = Policy(steps=range(1, 1000), every_steps=10, max_overhead=0.01)
    run = Run(policy, Costs(stall_s=1.0, flight_s=0.0)).go(999)
    assert len(run.commits) == 999
    run.go(300)
    assert run.commits[999] <= 999 + 111


def test_no_commit_is_asked_for_before_it_is_known_what_one_costs() -> None:
    run = Run(Policy(every_steps=1, max_overhead=0.5), Costs(stall_s=0.0, flight_s=3.5)).go(30)
    assert run.commits[:2] == [1, 9]  # in flight until step 4, then 5 steps without
    assert run.decisions[1].deferred.startswith("every step: as soon as it is known what commits cost")


def test_overhead_is_the_share_so_far() -> None:
    run = Run(UNBOUND, Costs(stall_s=1.0, flight_s=0.0))
    assert run.schedule.overhead == 0.0
    run.go(1000)
    assert run.schedule.overhead == pytest.approx(0.5, abs=0.01)


# Another policy in mid-run


def test_another_policy_counts_from_the_next_step() -> None:
    run = Run(Policy(every_steps=100, max_overhead=None), FREE).go(150)
    run.schedule.policy = Policy(every_steps=10, max_overhead=None)
    run.go(50)
    assert run.commits == [100, 160, 170, 180, 190, 200]
    run.schedule.policy = Policy(steps=[201], max_overhead=None)
    run.go(100)
    assert run.commits[6:] == [201]


def test_a_looser_bound_releases_what_was_postponed_and_a_dropped_trigger_forgets_it() -> None:
    what = Costs(stall_s=1.0, flight_s=0.0)
    tight = Policy(every_steps=10, max_overhead=0.001)
    run = Run(tight, what).go(25)
    assert run.commits == [10]
    run.schedule.policy = replace(tight, max_overhead=0.5)
    run.go(1)
    assert run.commits == [10, 26]
    run.schedule.policy = tight
    run.go(20)
    run.schedule.policy = Policy(every_steps=1000, max_overhead=None)
    run.go(20)
    assert run.commits == [10, 26]


def test_a_schedule_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, castore.training.schedule; assert not {'torch', 'numpy', 'numba'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
