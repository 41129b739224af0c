"""Histories to decide on, made by hand and by hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from castore.history.drops import Drop
from castore.history.walk import ancestors
from castore.objects.commit import Commit, CommitStats, ComponentStats
from castore.retention.of_tier import of_tier
from castore.retention.past import Line, Past
from castore.retention.rules import Rules
from tests.history.commit_graphs import Commits

START = datetime(2026, 3, 1, tzinfo=timezone.utc)
NOW = START + timedelta(days=30)
PARTS = {"model": ComponentStats(100, 100, 50, 50, 3), "optimizer": ComponentStats(200, 200, 100, 100, 6)}


def made(
    number: int,
    parents: Iterable[str] = (),
    minutes: int | None = None,
    metrics: dict[str, float] | None = None,
    meta: dict[str, str] | None = None,
    tier: str | None = None,
) -> Commit:
    """Commit `number`, of step 10 * number, an hour after the one before unless `minutes` (after START) says."""
    return Commit(
        id=f"c{number}",
        tree="0",
        parents=tuple(parents),
        message="",
        step=10 * number,
        metrics=metrics or {},
        author="ada",
        time=START + timedelta(minutes=60 * number if minutes is None else minutes),
        environment={},
        meta=meta or {},
        tier=tier,
        stats=CommitStats(ComponentStats(), PARTS),
    )


def linear(count: int, **metrics: list[float]) -> list[Commit]:
    """A line of commits, oldest first. metrics: by name, a value for each of the first commits."""
    return [
        made(
            number,
            [f"c{number - 1}"] if number else [],
            metrics={name: values[number] for name, values in metrics.items() if number < len(values)},
        )
        for number in range(count)
    ]


def past_of(commits: list[Commit], *tips: int, **said: object) -> Past:
    """What the commits are to branches at `tips` (default: the last one)."""
    source = Commits(commits)
    ends = tips or (len(commits) - 1,)
    lines = [Line(f"branch b{tip}", tuple(ancestors([f"c{tip}"], source))) for tip in ends]
    return Past(tuple(lines), **said)  # type: ignore[arg-type]


def dropped(number: int, *components: str) -> dict[str, Drop]:
    return {f"c{number}": Drop(f"c{number}", START, "--keep-last 1", components)}


NUMBERS = st.integers(1, 12)
KEEPS = st.one_of(
    *(st.tuples(st.just(f"keep_{name}"), NUMBERS) for name in ("last", "every", "hourly", "daily", "weekly")),
    st.tuples(st.just("keep_every"), st.sampled_from([20, 30, 50])),
    st.tuples(st.just("keep_within"), st.sampled_from(["90m", "1d", "2w"])),
    st.tuples(st.just("keep_accessed"), st.sampled_from(["90m", "1d", "2w"])),
    st.tuples(st.just("keep_best"), st.sampled_from(["loss=min", "loss=max:3", "rare=min:2"])),
    st.tuples(st.just("max_bytes"), st.integers(0, 4000)),
)
DROPS = st.tuples(st.just("drop_components"), st.sampled_from(["optimizer", "optimizer:older-than=1d", "mod*"]))


TIERS = ("gold", "silver")
TIER_KEEPS = st.builds(
    lambda tier, rule: (f"{tier}/{rule[0]}", rule[1]),
    st.sampled_from(TIERS),
    KEEPS.filter(lambda rule: rule[0] != "keep_best"),  # whose metric a tier may lack
)


def rules_of(pairs: Iterable[tuple[str, object]]) -> Rules:
    """Rules of (name, value) pairs, which may repeat a name; "gold/keep_last" is one of the tier gold."""
    settings: dict[str, dict[str, list[object]]] = {}
    for name, value in pairs:
        tier, _, key = name.rpartition("/")
        settings.setdefault(tier, {}).setdefault(key, []).append(value)
    found = Rules.from_mapping(settings.pop("", {}))
    for tier, own in settings.items():
        found += of_tier(tier, Rules.from_mapping(own))
    return found


@st.composite
def pasts(draw: st.DrawFn, skewed: bool = True) -> Past:
    """Any history: branches, merges, tags, pins, clocks that were wrong, states that were dropped before.

    The first commit of each branch's line has both metrics that rules ask for, so that these can be asked for.
    """
    count = draw(st.integers(1, 14))
    commits = []
    for number in range(count):
        before = [f"c{n}" for n in range(max(0, number - 4), number)]
        parents = draw(st.lists(st.sampled_from(before), max_size=2, unique=True)) if before else []
        minutes = draw(st.integers(0, 60 * 24 * 40)) if skewed else 600 * number
        metrics = {"loss": draw(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan, math.inf]))}
        if number == 0 or draw(st.booleans()):
            metrics = {"loss": 1.0, "rare": float(number % 5)}
        meta = {"resumed-from": draw(st.sampled_from(before))} if before and draw(st.integers(0, 9)) == 0 else {}
        tier = draw(st.sampled_from([None, *TIERS])) if number else None
        commits.append(made(number, parents, minutes, metrics, meta, tier))
    numbers = st.integers(0, count - 1)
    tips = draw(st.lists(numbers, min_size=1, max_size=4, unique=True))
    drops: dict[str, Drop] = {}
    last = draw(st.sampled_from(tips)) if draw(st.booleans()) else -1  # a branch that was moved to dropped states
    for number in [*draw(st.lists(numbers, max_size=4)), *range(max(0, last - 1), last + 1)]:
        drops |= dropped(number, *draw(st.sampled_from([(), ("optimizer",)])))
    protected = {f"c{number}": ("tag v1",) for number in draw(st.lists(numbers, max_size=2))}
    first = Line("branch first", (commits[0],))  # has every metric
    past = past_of(commits, *tips, drops=drops, protected=protected)
    return Past((*past.lines, first), past.drops, past.protected)


def weigh(commit: Commit) -> list[tuple[bytes, int]]:
    """Commits share records with their neighbours, as deltas and their bases do."""
    number = int(commit.id[1:])
    return [(b"base%d" % (number // 5), 300), (b"own%d" % number, 100 + 7 * number)]
