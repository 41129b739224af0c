"""What a killed process did can be seen, and is not durable yet; and does the simulation see what is not?"""

from __future__ import annotations

from pathlib import Path

import pytest

from castore.testing.power_cuts import cuts
from tests.crashes.explore import check, explore
from tests.crashes.scenarios import SCENARIOS, played


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith("killed")])
def test_nothing_is_built_on_what_a_killed_process_left_unsynced(name: str, memory: Path) -> None:
    assert explore(name, memory, ["synced"]).failures == []


@pytest.mark.parametrize(
    ("name", "forgotten", "path"),
    [
        ("delta commit", "sync", ".pack"),
        ("delta commit", "sync", ".tmp"),
        ("delta commit", "sync", "logs/HEAD"),
        ("delta commit", "sync_dir", "refs/heads"),
        ("prune and gc", "sync_dir", ".castore"),
        ("tags", "sync_dir", "refs/tags"),
        ("first commit", "make_dir", "logs"),
        ("deletion killed", "sync_dir", "refs/tags"),
    ],
)
def test_a_castore_that_forgot_an_operation_would_be_found_out(
    name: str, forgotten: str, path: str, memory: Path
) -> None:
    scene = played(name, memory / "scene")
    forgetful = [trace.without(forgotten, path) for trace in scene.traces]
    found = (
        check(scene, trace, cut, memory / "cut") for trace in forgetful for cut in cuts(trace, ["synced", "names"])
    )
    assert any(found)
