"""What a policy can say, and what is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import castore
from castore.config import Config
from castore.errors import UsageError
from castore.training.policy import Policy, as_policy


def refusal(**settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Policy.from_mapping(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_policy_is_made_from_none_a_name_a_mapping_or_a_policy() -> None:
    own = Policy(every_steps=7)
    assert as_policy(own) is own
    assert as_policy(None) == as_policy({}) == Policy()
    assert as_policy("lean") == as_policy({"mode": "lean"}) == Policy.lean()
    assert as_policy("critical") == as_policy({"mode": "critical"}) == Policy.critical()
    assert as_policy({"every_steps": 7}) == own


def test_settings_change_a_mode_one_by_one() -> None:
    assert as_policy({"mode": "lean", "every_steps": 50}) == replace(Policy.lean(), every_steps=50)
    changed = as_policy({"mode": "lean", "every_seconds": "none", "max_overhead": 0.2})
    assert (changed.every_seconds, changed.max_overhead) == (None, 0.2)


def test_critical_commits_more_than_the_default_and_lean_less() -> None:
    lean, usual, critical = Policy.lean(), Policy(), Policy.critical()
    assert lean.max_overhead and usual.max_overhead and critical.max_overhead
    assert lean.max_overhead < usual.max_overhead < critical.max_overhead
    assert lean.when_busy == "skip" and critical.when_busy == "wait"
    assert critical.on_exception and not usual.on_exception


def test_a_metric_improves_downward_unless_it_says_otherwise() -> None:
    assert [(p.metric, p.higher_is_better) for p in (Policy(improved="loss"), Policy(improved="val:acc:max"))] == [
        ("loss", False),
        ("val:acc", True),
    ]


def test_chosen_steps_are_any_whole_numbers_in_any_order() -> None:
    assert Policy(steps={30, 10, 20}).steps == Policy(steps=range(10, 40, 10)).steps == (10, 20, 30)


def test_a_policy_in_castore_toml_is_what_it_says(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        assert dict(store._repo.config.policy) == {}
        path = store.path / "castore.toml"
    path.write_text(path.read_text() + '[policy]\nmode = "lean"\nsteps = [5, 10]\nevery_seconds = "none"\n')
    with castore.open(tmp_path) as store:
        expected = replace(Policy.lean(), steps=(5, 10), every_seconds=None)
        assert as_policy(store._repo.config.policy) == expected


def test_a_policy_that_a_store_is_made_with_is_in_its_castore_toml(tmp_path: Path) -> None:
    from castore import config

    config.write(Config(policy={"mode": "critical"}), tmp_path)
    assert config.read(tmp_path).policy == {"mode": "critical"}


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("every_steps", [0, -5, 2.5, "10", True, [1]], "whole number from 1"),
        ("every_seconds", [0, -1, math.nan, math.inf, "10", False, 10**400], "above 0"),
        ("improved", ["", ":min", "loss:low", 5, ["loss"]], "':min' or ':max'"),
        ("steps", ["500", 5, [1, -1], [1.5], [True], {"5": 1}, None], "whole numbers from 0"),
        ("on_preemption", [1, "yes", None], "true or false"),
        ("on_exception", [0, "no"], "true or false"),
        ("max_overhead", [0, -0.1, 1.5, math.nan, "3%", True], "share above 0"),
        ("when_busy", ["queue", None, True, ["skip"]], "'skip' or 'wait'"),
        ("mode", ["fast", 5, None], "'lean' or 'critical'"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(name: str, values: list[Any], allowed: str) -> None:
    for value in values:
        line = refusal(**{name: value})
        assert name in line
        assert allowed in line, line


def test_what_there_is_no_setting_for_is_refused_with_those_there_are() -> None:
    line = refusal(every_step=5)
    assert "'every_step'" in line and "every_steps" in line and "when_busy" in line
    with pytest.raises(UsageError, match="'fast'"):
        as_policy("fast")
    with pytest.raises(UsageError, match="int"):
        as_policy(5)  # type: ignore[arg-type]


def test_neither_a_bound_nor_a_trigger_is_a_contradiction() -> None:
    assert "every_steps" in refusal(max_overhead="none")
    assert Policy(max_overhead=None, steps=[1]).max_overhead is None
