"""The table [tiers] of castore.toml: what is read, what is refused, and what its rules keep."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.errors import UsageError
from castore.retention.decide import decide
from castore.retention.tiers import DEFAULT, Tier, read
from tests.retention.pasts import NOW, made, past_of


def test_what_a_table_says() -> None:
    tiers = read(
        {
            "quick": {"exclude": "analysis", "every_steps": 1, "keep_last": 5},
            "deep": {"include": ["model", "optimizer"], "every_seconds": 60, "max_depth": 8, "directory": "../disk2"},
        }
    )
    assert tiers.given and tiers.lowest.name == "quick" and [one.name for one in tiers.all] == ["quick", "deep"]
    assert tiers.lowest.exclude == ("analysis",) and tiers.lowest.every_steps == 1
    assert [text for text, _ in tiers.lowest.rules.keep] == ["--keep-last 5"]
    deep = tiers.get("deep")
    assert deep is not None and (deep.include, deep.every_seconds) == (("model", "optimizer"), 60.0)
    assert (deep.directory, tiers.max_depth("deep"), tiers.max_depth("quick")) == ("../disk2", 8, None)


def test_by_default_there_are_three_and_any_other_name_will_do() -> None:
    tiers = read({})
    assert [one.name for one in tiers.all] == ["recovery", "milestone", "archive"] == list(DEFAULT)
    assert not tiers.given and tiers.named("gold") is None and tiers.named(None) is None
    archive = tiers.named("archive")
    assert archive is not None and not archive.rules and archive.directory is None
    for name in ("", "a b", "auto", "a/b", "x" * 65, "-x"):
        with pytest.raises(UsageError, match="can't name a tier"):
            tiers.named(name)


def test_where_there_is_a_table_other_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no tier 'archiv'; castore\.toml has: recovery, archive"):
        read({"recovery": {}, "archive": {}}).named("archiv")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"a": {"keep_lats": 5}}, r"tiers\.a: there is no key 'keep_lats'; there are: include, .*keep_last"),
        ({"a": {"keep_tier": "b"}}, "there is no key 'keep_tier'"),
        ({"a": {"every_steps": 0}}, r"tiers\.a: every_steps takes a whole number from 1"),
        ({"a": {"every_steps": True}}, "every_steps takes"),
        ({"a": {"every_seconds": "30m"}}, "every_seconds takes a number of seconds"),
        ({"a": {"every_seconds": float("inf")}}, "every_seconds takes"),
        ({"a": {"max_depth": 17}}, "max_depth takes a whole number from 0 to 16"),
        ({"a": {"directory": 5}}, "directory takes the path"),
        ({"a": {"directory": "x\ny"}}, "directory takes the path"),
        ({"a": {"include": [""]}}, "include takes a pattern"),
        ({"a": {"exclude": {"x": 1}}}, "exclude takes a pattern"),
        ({"a": {"keep_last": "many"}}, r"tiers\.a: --keep-last takes a whole number"),
        ({"a": 5}, r"tiers\.a should be a table"),
        ({"auto": {}}, "can't name a tier"),
        ({"a b": {}}, "can't name a tier"),
    ],
)
def test_what_cannot_be_meant_is_named(table: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(table)


PATHS = st.lists(st.sampled_from(["model", "optimizer", "a", "bias"]), min_size=1, max_size=3).map(tuple)
PATTERNS = st.lists(st.sampled_from(["model", "optimizer.a", "*.bias", "a*", "model.bias"]), max_size=2).map(tuple)


@given(PATHS, PATTERNS, PATTERNS)
def test_nothing_goes_in_below_what_is_left_out(path: tuple[str, ...], include: Any, exclude: Any) -> None:
    tier = Tier("a", include, exclude)
    assert tier.lets_in(path) == (Tier("a", include).lets_in(path) and not tier.shuts_out(path))
    if tier.shuts_out(path):
        assert tier.shuts_out((*path, "more")) or any("*" in pattern for pattern in exclude)
    if include and tier.lets_in(path):
        assert Tier("a", include, exclude).lets_in(path, ("elsewhere",))


def test_a_tier_without_rules_keeps_its_commits_whatever_the_others_say() -> None:
    tiers = ["archive" if number % 4 == 0 else "recovery" for number in range(12)]
    commits = [made(n, [f"c{n - 1}"] if n else [], tier=tier) for n, tier in enumerate(tiers)]
    rules = read({"recovery": {"keep_last": 2}, "archive": {"every_steps": 4}}).rules
    verdicts = decide(past_of(commits), rules, NOW).verdicts
    assert {int(one[1:]) for one, v in verdicts.items() if v.after == "present"} == {0, 4, 8, 10, 11}
    assert verdicts["c4"].reasons == ("keeps all (tier archive)",)
    assert verdicts["c10"].reasons == ("--keep-last 2 (tier recovery)",)
    assert verdicts["c9"].rule == "--keep-last 2 (tier recovery)"


def test_commits_of_no_tier_go_by_the_other_rules_alone() -> None:
    commits = [made(n, [f"c{n - 1}"] if n else [], tier="recovery" if n % 2 else None) for n in range(8)]
    verdicts = decide(past_of(commits), read({"recovery": {"keep_last": 1}}).rules, NOW).verdicts
    assert {int(one[1:]) for one, v in verdicts.items() if v.after == "present"} == {0, 2, 4, 6, 7}
    assert verdicts["c0"].reasons == ("no rule drops whole states",)


def test_components_are_dropped_of_the_tier_alone_and_a_budget_is_its_own() -> None:
    commits = [made(n, [f"c{n - 1}"] if n else [], tier="gold" if n % 2 else "silver") for n in range(9)]
    table = {"silver": {"drop_components": "optimizer", "keep_last": 9}, "gold": {"max_bytes": 250}}
    decision = decide(past_of(commits), read(table).rules, NOW, lambda one: [(one.id.encode(), 100)])
    states = {int(one[1:]): v.after for one, v in decision.verdicts.items()}
    assert {n for n, state in states.items() if state == "partial"} == {0, 2, 4, 6}
    assert sum(state == "present" for n, state in states.items() if n % 2) == 2


def test_a_metric_that_no_commit_of_the_tier_has_is_named_with_the_tier() -> None:
    commits = [made(0, metrics={"loss": 1.0}), made(1, ["c0"], tier="gold")]
    with pytest.raises(UsageError, match="tier gold: --keep-best loss=min: no commit has the metric"):
        decide(past_of(commits), read({"gold": {"keep_best": "loss=min"}}).rules, NOW)


def test_reading_tiers_loads_neither_numpy_nor_torch() -> None:
    import subprocess

    code = "import sys, castore.retention.tiers; sys.exit(bool({'torch', 'numpy', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
