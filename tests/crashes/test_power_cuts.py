"""A power cut at any operation leaves the old history or the new one, and no manual step."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.testing.power_cuts import cuts
from tests.crashes.explore import explore
from tests.crashes.scenarios import SCENARIOS, played

WHOLE = [name for name in SCENARIOS if not name.endswith("killed")]


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_a_cut_leaves_of_a_scenario_is_sound(name: str, memory: Path) -> None:
    assert explore(name, memory).failures == []


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in WHOLE])
def test_nothing_is_built_on_what_a_killed_process_left_unsynced(name: str, memory: Path) -> None:
    assert explore(name, memory, kinds=["synced", "names"]).failures == []


def test_that_is_two_thousand_states_of_every_operation_of_more_than_ten_scenarios(memory: Path) -> None:
    states = sum(1 for name in WHOLE for trace in played(name, memory / name).traces for _ in cuts(trace))
    assert len(WHOLE) > 10 and states >= 1800  # TODO
