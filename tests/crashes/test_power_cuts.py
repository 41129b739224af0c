"""A power cut at any operation leaves the old history or the new one, and no manual step."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.testing.power_cuts import cuts
from tests.crashes.explore import explore
from tests.crashes.scenarios import SCENARIOS, played

WHOLE = [name for name in SCENARIOS if not name.endswith("killed")]
KINDS = ["synced", "names", "torn", "subset"]  # the others too: tools/crash_explore


@pytest.mark.parametrize("name", WHOLE)
def test_whatever_a_cut_leaves_of_a_scenario_is_sound(name: str, memory: Path) -> None:
    assert explore(name, memory, KINDS).failures == []


def test_that_is_two_thousand_stores_of_more_than_ten_scenarios(memory: Path) -> None:
    traces = [trace for name in WHOLE for trace in played(name, memory / name).traces]
    assert len(WHOLE) > 10
    assert sum(1 for trace in traces for _ in cuts(trace, KINDS)) >= 2000
