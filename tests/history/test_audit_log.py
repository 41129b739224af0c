"""The audit log: what is entered comes back, and what is done to the file afterwards is found."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castore import limits
from castore.errors import CorruptError, StorageError, UsageError
from castore.history.audit import AuditLog
from castore.history.audit_check import AuditReport, check
from castore.history.audit_line import AuditEntry, Event, decode, encode
from castore.testing import faults

IDS = [f"{n:032x}" for n in range(1, 10)]
MAIN = "refs/heads/main"

texts = st.text(max_size=60) | st.text(st.sampled_from("\\nt u0041\n\t\x18\x7f\u2028"), max_size=20)
events = st.builds(
    Event,
    action=st.sampled_from(["commit", "tag", "gc", "reflog-expire"]),
    subject=texts,
    old=st.none() | st.sampled_from(IDS),
    new=st.none() | st.sampled_from(IDS),
    detail=texts,
)
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=zones)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path, True, dict)


def written(log: AuditLog, count: int) -> bytes:
    """The file after `count` changes of other branches than main, and the one that began it."""
    for number in range(count):
        log.append(Event("commit", f"refs/heads/b{number}", None, IDS[0], f"change {number}"))
    return log._root.joinpath("audit").read_bytes()


def checked(log: AuditLog, known_head: str | None = None) -> AuditReport:
    """The chain alone: the refs are what the log says."""
    refs = {entry.event.subject: entry.event.new for entry in log.read() if entry.event.new is not None}
    return check(log, log.size(), refs, known_head)


@given(st.integers(1, 10**17), times, texts, events)
def test_a_line_gives_back_the_entry(number: int, time: datetime, who: str, event: Event) -> None:
    entry = AuditEntry(number, "ab" * 32, time, who, event)
    line = encode(entry)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == entry


def test_a_long_detail_is_cut(log: AuditLog) -> None:
    log.append(Event("pin", IDS[0], detail="é" * limits.MAX_AUDIT_LINE_BYTES))
    log.append(Event("unpin", IDS[0]))
    (_, long, _) = log.read()
    assert limits.MAX_AUDIT_LINE_BYTES - 2 <= len(encode(long)) <= limits.MAX_AUDIT_LINE_BYTES
    assert checked(log).ok


def test_entries_are_numbered_and_say_who_and_when(log: AuditLog) -> None:
    before = datetime.now(timezone.utc)
    log.append(Event("tag", "refs/tags/v1", None, IDS[0]))
    log.append(Event("delete", "refs/tags/v1", IDS[0]), Event("gc", detail="two at once"))
    entries = log.read()
    assert [(entry.number, entry.event.action) for entry in entries] == [
        (1, "begin"),
        (2, "tag"),
        (3, "delete"),
        (4, "gc"),
    ]
    assert all("@" in entry.who and entry.time >= before.replace(microsecond=0) for entry in entries)
    assert [entry.number for entry in log.read(2)] == [3, 4]


def test_a_whole_log_is_found_whole(log: AuditLog) -> None:
    written(log, 5)
    report = checked(log)
    assert (report.ok, report.entries, report.head) == (True, 6, log.read()[-1].hash)
    for entry in log.read():
        assert checked(log, entry.hash).ok


@settings(max_examples=300)
@given(st.data())
def test_any_change_to_a_log_is_found(log_of_six: tuple[AuditLog, bytes], data: st.DataObject) -> None:
    log, good = log_of_six
    lines = good.splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["change", "remove", "swap", "insert", "repeat"]))
    at = data.draw(st.integers(0, len(lines) - 1))
    if kind == "change":
        byte = data.draw(st.integers(0, len(good) - 3))  # the two after that make of the last line one that was cut
        changed = bytearray(good)
        changed[byte] ^= data.draw(st.integers(1, 255))
        lines = [bytes(changed)]
    elif kind == "remove":
        del lines[min(at, len(lines) - 2)]  # not the last one: see the next test
    elif kind == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda one: one != at))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "insert":
        lines.insert(at, data.draw(st.binary(max_size=40)) + b"\n")
    else:
        lines.insert(at, lines[data.draw(st.integers(0, len(lines) - 1))])
    log._root.joinpath("audit").write_bytes(b"".join(lines))
    report = checked(log)
    assert not report.ok
    assert "entry" in report.errors[0]


@pytest.fixture(scope="module")
def log_of_six(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditLog, bytes]:
    log = AuditLog(tmp_path_factory.mktemp("audit"), True, dict)
    return log, written(log, 5)


def test_a_log_that_was_cut_short_is_found_by_a_hash_that_was_known(log: AuditLog) -> None:
    good = written(log, 5)
    head = checked(log).head
    log._root.joinpath("audit").write_bytes(b"".join(good.splitlines(keepends=True)[:-1]))
    assert checked(log).ok
    assert not checked(log, head).ok
    log.append(Event("commit", "refs/heads/other", None, IDS[1]))
    assert checked(log).ok
    assert f"no entry has the hash {head}" in checked(log, head).errors[0]


def test_a_log_written_anew_is_found_by_a_hash_that_was_known(log: AuditLog) -> None:
    written(log, 3)
    head = checked(log).head
    log._root.joinpath("audit").unlink()
    written(log, 3)
    assert checked(log).ok
    assert not checked(log, head).ok


@pytest.mark.parametrize("cut", [1, 2, 30, 100])
def test_a_line_that_a_crash_cut_short_breaks_nothing(log: AuditLog, cut: int) -> None:
    good = written(log, 3)
    path = log._root / "audit"
    path.write_bytes(good[:-cut])
    assert (checked(log).ok, checked(log).entries) == (True, 3)
    log.append(Event("commit", "refs/heads/next", None, IDS[1]))
    report = checked(log)
    assert (report.ok, report.entries) == (True, 4)
    assert path.read_bytes().startswith(good[:-cut] + b"\x18\n")
    path.write_bytes(path.read_bytes().replace(b"\x18\n", b"\x18\n\x18\n"))
    assert not checked(log).ok
    path.write_bytes(good[:-cut] + path.read_bytes().split(b"\x18\n")[-1])
    assert not checked(log).ok


def test_a_short_write_is_an_error_and_the_next_entry_ends_it(log: AuditLog) -> None:
    written(log, 2)
    with faults.inject("short_write"), pytest.raises(StorageError):
        log.append(Event("gc"))
    written(log, 1)
    report = checked(log)
    assert (report.ok, report.entries) == (True, 4)


@pytest.mark.parametrize("rubbish", [b"rubbish\n", b"x" * (9 * limits.MAX_AUDIT_LINE_BYTES) + b"\n", b"\xff" * 80_000])
def test_a_damaged_log_does_not_keep_the_store_from_working(log: AuditLog, rubbish: bytes) -> None:
    good = written(log, 2)
    (log._root / "audit").write_bytes(good + rubbish)
    log.append(Event("gc"))
    assert [entry.number for entry in log.read()] == [1, 2, 3, 4]
    report = checked(log)
    assert report.ok == (not rubbish.endswith(b"\n"))  # what has no end may be of a crash
    written(log, 1)
    assert checked(log).ok == report.ok


def test_a_log_that_begins_in_a_store_with_a_history_names_what_it_finds(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, True, lambda: {MAIN: IDS[0], "refs/tags/v1": IDS[1]})
    log.append(Event("gc"))
    assert [entry.event.action for entry in log.read()] == ["begin", "found", "found", "gc"]
    report = check(log, log.size(), {MAIN: IDS[0], "refs/tags/v1": IDS[1]}, None)
    assert report.ok
    assert report.notes == ("entry 1 began the log when the store was there already",)


@pytest.mark.parametrize("lines", [1, 2])
def test_a_beginning_that_a_crash_cut_short_accuses_nobody_and_is_completed(tmp_path: Path, lines: int) -> None:
    refs = {MAIN: IDS[0], "refs/tags/v1": IDS[1]}
    log = AuditLog(tmp_path, True, lambda: refs)
    log.append(Event("gc"))
    file = tmp_path / "audit"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:lines]) + b"4 torn")
    report = check(log, log.size(), refs, None)
    assert report.ok and any("cut the beginning" in note for note in report.notes)
    log.append(Event("gc"))
    assert [entry.event.action for entry in log.read()][lines:] == ["found", "found", "gc"]
    assert not any("cut" in note for note in check(log, log.size(), refs, None).notes)
    assert check(log, log.size(), refs, None).ok
    assert not check(log, log.size(), {**refs, "refs/heads/forged": IDS[2]}, None).ok


@pytest.mark.parametrize(
    ("refs", "problem"),
    [
        ({MAIN: IDS[3]}, f"{MAIN} is at {IDS[3]}, but by entry 3, its last one, it went to {IDS[1]}"),
        ({}, f"{MAIN} is not there, but by entry 3, its last one, it went to {IDS[1]}"),
        ({MAIN: IDS[1], "refs/tags/x": IDS[0]}, f"refs/tags/x is at {IDS[0]}, and no entry made it"),
    ],
)
def test_a_ref_that_is_not_what_the_log_says_is_found(log: AuditLog, refs: dict[str, str], problem: str) -> None:
    log.append(Event("commit", MAIN, None, IDS[0]))
    log.append(Event("commit", MAIN, IDS[0], IDS[1]))
    assert check(log, log.size(), {MAIN: IDS[1]}, None).ok
    assert check(log, log.size(), refs, None).errors == (problem,)


def test_a_change_that_was_entered_and_not_made_is_no_error(log: AuditLog) -> None:
    log.append(Event("commit", MAIN, None, IDS[0]))
    log.append(Event("commit", MAIN, IDS[0], IDS[1]))
    report = check(log, log.size(), {MAIN: IDS[0]}, None)
    assert report.ok
    assert "entry 3, its last one, was not carried out, or undone by hand" in report.notes[-1]
    log.append(Event("commit", MAIN, IDS[0], IDS[2]))
    assert len(check(log, log.size(), {MAIN: IDS[2]}, None).notes) == 1


def test_a_log_that_is_not_there_is_an_error(log: AuditLog) -> None:
    assert "there is no audit log" in check(log, 0, {}, None).errors[0]


def test_a_log_that_is_switched_off_gets_nothing(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, False, dict)
    log.append(Event("gc"))
    assert log.read() == []


@pytest.mark.parametrize("put", [lambda path: path.symlink_to("/dev/null"), lambda path: path.symlink_to("x")])
def test_a_symbolic_link_is_not_followed(log: AuditLog, put: Callable[[Path], None]) -> None:
    put(log._root / "audit")
    with pytest.raises(CorruptError, match="symbolic link"):
        log.append(Event("gc"))


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(UsageError, match="no UTC offset"):
        encode(AuditEntry(1, "0" * 64, datetime(2025, 1, 1), "ada", Event("gc")))
