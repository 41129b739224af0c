"""What each rule keeps."""

from __future__ import annotations

import math
import re
from datetime import timedelta

import pytest

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.retention.decide import Decision, decide
from castore.retention.past import Past
from castore.retention.registry import FORMS
from castore.retention.rules import Rules
from tests.retention.pasts import NOW, START, dropped, linear, made, past_of, weigh


def kept(past: Past, **rules: object) -> list[int]:
    """The numbers of the commits whose state is left, beside the head's."""
    decision = decide(past, Rules.from_mapping(rules), NOW, weigh)
    head = past.lines[0].commits[0].id
    return sorted(int(one[1:]) for one, v in decision.verdicts.items() if v.after != "dropped" and one != head)


def reasons(decision: Decision, number: int) -> tuple[str, ...]:
    return decision.verdicts[f"c{number}"].reasons


def test_the_last() -> None:
    assert kept(past_of(linear(9)), keep_last=3) == [6, 7]
    assert kept(past_of(linear(2)), keep_last=30) == [0]


def test_the_last_that_have_a_state() -> None:
    drops = {**dropped(7), **dropped(6), **dropped(5, "optimizer")}
    assert kept(past_of(linear(9), drops=drops), keep_last=3) == [4, 5]


def test_the_newest_whole_state_is_kept_where_a_branch_was_moved_to_a_dropped_one() -> None:
    past = past_of(linear(9), drops={**dropped(8), **dropped(7, "optimizer"), **dropped(6)})
    assert kept(past, keep_every=1000) == [0, 5]
    assert reasons(decide(past, Rules.from_mapping({"keep_every": 1000}), NOW), 5) == (
        "newest whole state of branch b8",
    )


def test_each_nth_step() -> None:
    assert kept(past_of(linear(12)), keep_every=50) == [0, 5, 10]


def test_those_within_a_span_of_the_newest_however_long_the_run_has_rested() -> None:
    assert kept(past_of(linear(12)), keep_within="3h") == [8, 9, 10]
    assert kept(past_of(linear(12)), keep_within="1.hour") == [10]


def test_those_that_were_loaded_lately_or_by_a_clock_that_was_wrong() -> None:
    loaded = {"c1": NOW - timedelta(hours=30), "c2": NOW - timedelta(hours=2), "c5": NOW + timedelta(days=400)}
    past = past_of(linear(9), accessed=loaded)
    assert kept(past, keep_accessed="3h") == [2, 5]
    assert kept(past, keep_accessed="2d") == [1, 2, 5]
    assert "loaded on 2026-03-30" in reasons(decide(past, Rules.from_mapping({"keep_accessed": "3h"}), NOW), 2)[0]


def test_the_newest_of_each_of_the_last_days() -> None:
    assert kept(past_of(linear(73)), keep_daily=3) == [47, 71]
    assert kept(past_of(linear(73)), keep_daily=2) == [71]
    assert kept(past_of(linear(50)), keep_hourly=4) == [46, 47, 48]
    assert kept(past_of(linear(24 * 10)), keep_weekly=3) == [23, 24 * 8 - 1]
    assert kept(past_of(linear(24 * 28)), keep_monthly=3, keep_yearly=2) == []


def test_periods_are_those_of_who_committed() -> None:
    from dataclasses import replace
    from datetime import timezone

    east = timezone(timedelta(hours=9))
    commits = [replace(one, time=one.time.astimezone(east)) for one in linear(40)]
    assert kept(past_of(commits), keep_daily=3) == [14, 38]  # 15:00 UTC is midnight there


def test_the_best_by_a_metric_and_of_equal_ones_the_newest() -> None:
    past = past_of(linear(6, loss=[3.0, 1.0, 2.0, 1.0, math.nan, 9.0]))
    assert kept(past, keep_best="loss=min") == [3]
    assert kept(past, keep_best="loss=min:3") == [1, 2, 3]
    assert kept(past, keep_best="loss=max:2") == [0]  # and the head
    assert kept(past, keep_best=["loss=min", "loss=max:2"]) == [0, 3]


def test_a_metric_that_no_commit_has_is_an_error_that_names_it_and_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'los'; there are: acc, loss"):
        kept(past_of(linear(4, loss=[1.0], acc=[0.5])), keep_best="los=min")


def test_a_branch_without_the_metric_keeps_all_and_a_warning_says_so() -> None:
    commits = [*linear(3, loss=[1.0, 2.0, 3.0]), made(3), made(4, ["c3"]), made(5, ["c4"])]
    decision = decide(past_of(commits, 2, 5), Rules.from_mapping({"keep_best": "loss=min"}), NOW)
    assert [one for one, verdict in decision.verdicts.items() if verdict.after == "dropped"] == ["c1"]
    assert any("branch b5" in text and "'loss'" in text for text in decision.warnings)


def test_the_tier() -> None:
    commits = [made(0, tier="gold"), made(1, ["c0"]), made(2, ["c1"], tier="gold"), made(3, ["c2"])]
    assert kept(past_of(commits), keep_tier="gold") == [0, 2]
    with pytest.raises(UsageError, match="no commit has that tier; there are: gold"):
        kept(past_of(commits), keep_tier="silver")


def test_what_a_run_began_from_is_kept() -> None:
    commits = [*linear(6), made(6, ["c2"]), made(7, ["c6"], meta={"resumed-from": "c4"})]
    decision = decide(past_of(commits, 5, 7), Rules.from_mapping({"keep_last": 1}), NOW)
    left = {one for one, verdict in decision.verdicts.items() if verdict.after == "present"}
    assert left == {"c5", "c7", "c2", "c4"}
    assert reasons(decision, 2) == reasons(decision, 4) == ("a run began from it",)


def test_a_budget_thins_with_age() -> None:
    """All commits cost the same here, and of older ones those are left whose number more powers of two divide."""
    past = past_of(linear(64))
    decision = decide(past, Rules.from_mapping({"max_bytes": 1200}), NOW, lambda one: [(one.id.encode(), 100)])
    left = sorted(int(one[1:]) + 1 for one, verdict in decision.verdicts.items() if verdict.after == "present")
    assert left == [16, 32, 40, 48, 52, 56, 58, 60, 61, 62, 63, 64]


def test_components_of_what_is_kept_are_dropped_by_age() -> None:
    past = past_of(linear(100), protected={"c5": ("tag v1",)})
    rules = Rules.from_mapping({"keep_every": 50, "drop_components": "optimizer:older-than=27d"})
    verdicts = decide(past, rules, NOW).verdicts
    assert {one for one, v in verdicts.items() if v.after == "partial"} == {
        f"c{number}" for number in range(0, 72, 5) if number != 5
    }
    assert verdicts["c10"].components == ("optimizer",)
    assert verdicts["c10"].rule == "--drop-components optimizer:older-than=27d"
    assert verdicts["c75"].after == "present"


def test_a_component_that_no_commit_has_is_named_and_drops_nothing() -> None:
    decision = decide(past_of(linear(9)), Rules.from_mapping({"drop_components": "optimzer"}), NOW)
    assert not [one for one in decision.verdicts.values() if one.rule]
    assert re.search(r"anything that fits 'optimzer'", decision.warnings[0])


def turned_back(minutes: list[int]) -> list[Commit]:
    return [made(n, [f"c{n - 1}"] if n else [], minutes=at) for n, at in enumerate(minutes)]


def test_a_clock_that_went_backwards_drops_nothing_and_is_named() -> None:
    day = 24 * 60
    commits = turned_back([day, 2 * day, -900 * day, -899 * day, 3 * day, 4 * day, 5 * day])
    decision = decide(past_of(commits), Rules.from_mapping({"keep_daily": 2}), NOW)
    left = {one for one, verdict in decision.verdicts.items() if verdict.after == "present"}
    assert left == {"c6", "c5", "c2", "c3"}
    assert len(decision.warnings) == 1
    assert "2 commits" in decision.warnings[0] and "c2" in decision.warnings[0]
    by_place = decide(past_of(commits), Rules.from_mapping({"keep_last": 2}), NOW)
    assert {one for one, verdict in by_place.verdicts.items() if verdict.after == "present"} == {"c6", "c5"}
    assert not by_place.warnings  # this rule goes by no clock


def test_a_commit_from_the_future_takes_no_other_ones_place() -> None:
    day = 24 * 60
    commits = turned_back([day, 2 * day, 400 * day, 3 * day, 4 * day])
    decision = decide(past_of(commits), Rules.from_mapping({"keep_daily": 2, "keep_within": "1h"}), NOW)
    left = {one for one, verdict in decision.verdicts.items() if verdict.after == "present"}
    assert left == {"c4", "c3", "c2"}
    assert "future" in decision.warnings[0] and "c2" in decision.warnings[0]


def test_a_clock_that_is_behind_now_drops_nothing() -> None:
    decision = decide(past_of(linear(9)), Rules.from_mapping({"keep_last": 1}), START - timedelta(days=1))
    assert not [one for one in decision.verdicts.values() if one.rule]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep_lst": 5}, "no rule 'keep_lst'"),
        ({"keep_last": 0}, "--keep-last takes a whole number from 1 on, not '0'"),
        ({"keep_last": -1}, "--keep-last"),
        ({"keep_last": True}, "keep_last takes N, not True"),
        ({"keep_last": 1.5}, "keep_last takes N, not 1.5"),
        ({"keep_last": {"n": 1}}, "keep_last takes N"),
        ({"keep_every": "many"}, "--keep-every"),
        ({"keep_within": "soon"}, "--keep-within takes a span of time such as"),
        ({"keep_within": "99999999999d"}, "--keep-within"),
        ({"keep_best": "loss"}, "METRIC=min or METRIC=max"),
        ({"keep_best": "loss=best"}, "METRIC=min or METRIC=max"),
        ({"keep_best": "=min"}, "METRIC=min or METRIC=max"),
        ({"keep_best": "loss=min:0"}, "whole number from 1 on, not '0'"),
        ({"max_bytes": "lots"}, "--max-bytes takes a size"),
        ({"drop_components": ":older-than=7d"}, "PATTERN"),
        ({"drop_components": "optimizer:younger-than=7d"}, "older-than"),
        ({"drop_components": "optimizer:older-than="}, "span of time"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        Rules.from_mapping(settings)


def test_sizes_and_spans() -> None:
    texts = ["500", "500B", "1.5kB", "2 MB", "10GiB", "1T"]
    sizes = [Rules.from_mapping({"max_bytes": text}).keep[0][1].budget_bytes for text in texts]  # type: ignore[attr-defined]
    assert sizes == [500, 500, 1500, 2_000_000, 10 << 30, 10**12]
    spans = [Rules.from_mapping({"keep_within": text}).keep[0][1].span for text in ("90m", "1w2d", "30.days", "1 hour")]  # type: ignore[attr-defined]
    assert spans == [timedelta(minutes=90), timedelta(days=9), timedelta(days=30), timedelta(hours=1)]


def test_each_rule_is_read_by_the_name_that_it_shows() -> None:
    values = {
        "keep_within": "7d",
        "keep_accessed": "30d",
        "keep_best": "loss=min",
        "keep_tier": "gold",
        "drop_components": "optimizer",
    }
    for key, form in FORMS.items():
        rules = Rules.from_mapping({key: values.get(key, "3")})
        assert [text for text, _ in (*rules.keep, *rules.drop)] == [f"{form.option} {values.get(key, '3')}"]
