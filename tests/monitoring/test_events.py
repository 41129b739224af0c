"""Events: one a line, from any number of processes, in files of bounded size, and never in the way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import castore
from castore import limits
from castore.errors import StorageError
from castore.monitoring.events import LOCK, NAME, OLDER, Events, decode
from castore.monitoring.tally import BOUNDS, Tally
from castore.testing import faults
from tests import workers
from tests.processes import finish, start
from tests.samples import state


def told(notes: list[str], root: Path) -> Events:
    return Events(root, False, notes.append)


@pytest.fixture
def events(tmp_path: Path) -> Events:
    return Events(tmp_path, False, pytest.fail)


def test_what_a_store_did_is_there_in_its_order(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        commit = store.commit(state(1), step=1)
        store.load(commit.id)
        store.checkout(commit.id, tmp_path / "out.pt")
        store.gc()
        found = list(store.repository.events.read())
    assert [(one.kind, one.facts.get("how") or one.facts.get("task")) for one in found] == [
        ("commit", None),
        ("restore", "load"),
        ("restore", "checkout"),
        ("task", "gc"),
    ]
    assert all(one.facts["seconds"] >= 0 for one in found)
    assert found[0].facts["bytes"] > 0
    assert [one.time for one in found] == sorted(one.time for one in found)


def test_what_was_asked_wrongly_is_no_failure_and_what_is_damaged_is(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        commit = store.commit(state(1))
        with pytest.raises(castore.RevisionError):
            store.load("nothing")
        with faults.inject("sync"), pytest.raises(StorageError):
            store.commit(state(2))
        failures = [one.facts for one in store.repository.events.read() if one.kind == "failure"]
        assert store.resolve("main") == commit.id
    assert [(one["of"], one["error"]) for one in failures] == [("commit", "StorageError")]
    assert "Input/output error" in failures[0]["text"]


def test_a_task_that_fails_is_counted_by_its_name(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit(state(1))
        store.commit(state(2), branch="gone")
        store.delete_branch("gone", force=True)
        with faults.inject("remove"), pytest.raises(StorageError):
            store.gc()
        assert store.repository.events.tally().counts["failure", "gc"] == 1


def test_a_torn_or_foreign_line_is_skipped(events: Events, tmp_path: Path) -> None:
    events.record("commit", seconds=1.0)
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"time": 1.0, "event": "comm\n[1]\n\0\0\0\0\n{"time": "x", "event": "commit"}\n{"a": 1}\n')
        file.write(b'{"time": NaN, "event": "commit"}\n' + b'{"a":' * 2000 + b"\n" + b"x" * 20000 + b"\n")
    events.record("commit", seconds=2.0)
    assert [one.facts for one in events.read()] == [{"seconds": 1.0}, {"seconds": 2.0}]


@pytest.mark.parametrize("operation", ["append", "short_write"])
def test_an_event_that_cannot_be_written_is_counted_and_said_once(tmp_path: Path, operation: str) -> None:
    notes: list[str] = []
    events = told(notes, tmp_path)
    for nth in (1, 2):
        with faults.inject(operation, error=errno.ENOSPC):
            events.record("commit", number=nth)
    events.record("commit", number=3)
    events.record("commit", number=4)
    assert len(notes) == 1 and "not recorded" in notes[0]
    assert events.tally().lost == 2
    assert [one.facts["number"] for one in events.read()][-1] == 4


def test_a_commit_whose_event_fails_is_made_all_the_same(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit(state(1))
        with faults.record() as recorded:
            store.commit(state(2))
        assert [one.path.name for one in recorded.operations if one.name == "append"][-1] == NAME
        appends = sum(one.name == "append" for one in recorded.operations)
        with faults.inject("append", nth=appends, error=errno.ENOSPC) as fault:
            commit = store.commit(state(3))
        assert fault.struck and store.resolve("main") == commit.id


def test_the_file_is_begun_anew_at_its_bound_and_nothing_is_counted_twice_or_forgotten(
    events: Events, tmp_path: Path
) -> None:
    long = "x" * 15_000
    count = 3 * limits.MAX_EVENTS_BYTES // len(long) + 10
    for number in range(count):
        events.record("commit", seconds=0.25 * (number % 4), bytes=2, text=long)
        if number % 100 == 0:
            events.record("failure", of="commit")
        events.bound()
    assert {path.name for path in tmp_path.iterdir()} == {NAME, OLDER, LOCK}
    assert all(path.stat().st_size < limits.MAX_EVENTS_BYTES + 20_000 for path in tmp_path.iterdir())
    tally = events.tally()
    assert tally.counts == {("commit", ""): count, ("failure", "commit"): (count - 1) // 100 + 1}
    assert tally.amounts == {("commit.bytes", ""): 2 * count}
    assert sum(tally.times["commit.seconds", ""].counts) == count
    assert 0 < sum(one.kind == "commit" for one in events.read()) < count


def test_a_crash_before_the_totals_are_written_loses_none_of_the_file_before(events: Events, tmp_path: Path) -> None:
    events.record("commit", seconds=1.0)
    (tmp_path / NAME).rename(tmp_path / OLDER)
    assert events.tally().counts == {("commit", ""): 1}
    events.record("commit", seconds=1.0)
    assert events.tally().counts == {("commit", ""): 2}


def test_processes_write_side_by_side(tmp_path: Path) -> None:
    finish([start(workers.record_events, tmp_path, f"p{number}", 300) for number in range(4)])
    tally = Events(tmp_path, True, pytest.fail).tally()
    assert tally.counts == {("failure", f"p{number}"): 300 for number in range(4)}


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_is_no_file_in_place_of_events_holds_nobody_up_and_is_not_followed(tmp_path: Path, kind: str) -> None:
    with castore.open(tmp_path, create=True) as store:
        os.mkfifo(tmp_path / "target") if kind == "pipe" else (tmp_path / "target").touch()
        (store.path / NAME).symlink_to(tmp_path / "target") if kind == "link" else os.mkfifo(store.path / NAME)
        commit = store.commit(state(1))
        store.load(commit.id)
        assert store.repository.alerts.send("budget", "full", condition="5")
        with pytest.raises(castore.CorruptError, match="events"):
            store.metrics()
    assert kind == "pipe" or (tmp_path / "target").read_bytes() == b""


def test_a_store_that_was_deleted_raises_nothing(tmp_path: Path) -> None:
    notes: list[str] = []
    events = told(notes, tmp_path / "gone")
    events.record("commit")
    events.bound()
    assert len(notes) == 1 and events.tally() == Tally()


def test_nothing_is_written_to_a_store_that_is_read_only(tmp_path: Path) -> None:
    Events(tmp_path, True, pytest.fail).record("commit")
    assert list(tmp_path.iterdir()) == []


unhurried = settings(suppress_health_check=[HealthCheck.too_slow])

FACTS = st.fixed_dictionaries(
    {},
    optional={
        "seconds": st.one_of(st.floats(0, 1e5), st.integers(0, 9000), st.just("x"), st.just(-1.0)),
        "stall": st.sampled_from([*BOUNDS, 0.0]),
        "bytes": st.integers(-5, 1 << 60),
        "lost": st.integers(0, 3),
        "of": st.sampled_from(["commit", "", '\n"', "\ud800", None, 5]),
        "task": st.sampled_from(["gc", "scrub"]),
    },
)
LISTED = st.lists(st.tuples(st.sampled_from(["commit", "restore", "task", "failure", "alert", "new"]), FACTS))


def tallied(listed: list[tuple[str, dict[str, object]]]) -> Tally:
    tally = Tally()
    for kind, facts in listed:
        tally.add(kind, facts)
    return tally


def same(a: Tally, b: Tally) -> bool:
    """Equal, but for the rounding of sums of seconds."""
    assert a.times.keys() == b.times.keys()
    for key, one in a.times.items():
        assert one.counts == b.times[key].counts
        assert one.seconds == pytest.approx(b.times[key].seconds)
    return (+a.amounts, a.counts, a.lost) == (+b.amounts, b.counts, b.lost)


@unhurried
@given(LISTED, LISTED)
def test_sums_of_two_spans_add_up(
    first: list[tuple[str, dict[str, object]]], then: list[tuple[str, dict[str, object]]]
) -> None:
    assert same(tallied(first) + tallied(then), tallied(first + then))


@unhurried
@given(LISTED)
def test_totals_survive_a_line(listed: list[tuple[str, dict[str, object]]]) -> None:
    tally = tallied(listed)
    found = Tally.of_facts(json.loads(json.dumps(tally.facts())))
    assert found is not None and same(found, tally)


@unhurried
@given(st.binary(max_size=200))
def test_no_line_is_more_than_skipped(line: bytes) -> None:
    event = decode(line)
    assert event is None or isinstance(event.kind, str)


SCALARS = st.none() | st.integers() | st.sampled_from(["", "1", "nan"])


@unhurried
@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4)))
def test_totals_that_castore_did_not_write_are_passed_over(rows: object) -> None:
    for name in ("times", "amounts", "counts", "lost"):
        found = Tally.of_facts({**Tally().facts(), name: rows})
        assert found is None or Tally.of_facts(found.facts()) == found  # what is left is what castore writes
