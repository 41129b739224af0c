"""docs/maintenance.md lists every metric, event, task and setting that there is."""

from __future__ import annotations

import re
from pathlib import Path

import castore
from castore.maintenance.upkeep.tasks import TASKS
from castore.monitoring.settings import EVENTS
from tests.samples import state

PAGE = (Path(__file__).parents[2] / "docs" / "maintenance.md").read_text("utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def first_cells(text: str) -> set[str]:
    return {
        name for row in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE) for name in re.findall(r"`([^`{]+)", row)
    }


def test_every_metric_is_listed_with_its_type(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit(state(1), step=1)
        store.load("main")
        store.maintain()
        store.repository.events.record("commit", stall=0.1)
        families = store.metrics()
    rows = re.findall(r"^\| (`castore_[^|]*) \| (\w+) \|", section("Metrics"), re.MULTILINE)
    listed = {name: kind for cell, kind in rows for name in re.findall(r"`(\w+)", cell)}
    assert {one.name: one.kind for one in families} == listed


def test_every_event_and_every_task_is_listed() -> None:
    assert first_cells(section("Alerts")) == set(EVENTS)
    assert first_cells(section("A session")) == {task.name for task in TASKS}
    for task in TASKS:
        assert re.search(rf'^{task.name} = "{task.every}"', PAGE, re.MULTILINE)
