"""The files `dropped` and `pins`: what is written is read, and what is damaged is told from it."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore import limits
from castore.errors import CorruptError, UsageError
from castore.history.drops import Drop, Drops
from castore.history.marks import Mark, MarkFile, decode, encode
from castore.history.pins import Pin, Pins

NOW = datetime(2026, 3, 1, 12, 30, 15, 7, tzinfo=timezone(timedelta(hours=-3)))
IDS = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1960, 1, 2), datetime(2200, 1, 1), timezones=ZONES)
TEXTS = st.text(st.characters(), max_size=30)
MARKS = st.builds(Mark, IDS, TIMES, st.lists(TEXTS, min_size=1, max_size=4).map(tuple))


@given(MARKS)
def test_a_line_reads_back(mark: Mark) -> None:
    line = encode(mark)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode(line[:-1], 32) == mark
    assert decode(line[:-1], 64) is None


@given(st.lists(MARKS, max_size=8, unique_by=lambda mark: mark.commit), IDS)
def test_marks_are_found_one_by_one_as_all_together(marks: list[Mark], other: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        file = MarkFile(Path(directory), "dropped", 32)
        file.update(added=marks)
        again = MarkFile(Path(directory), "dropped", 32)
        known = {mark.commit: mark for mark in marks}
        assert again.read() == file.read() == known
        for commit in [*known, other]:
            assert again.get(commit) == known.get(commit)
        assert again.damaged_lines() == []


@given(MARKS, st.integers(0, 200), st.integers(1, 255))
def test_a_damaged_line_is_no_line_or_another_one_never_an_error(mark: Mark, at: int, mask: int) -> None:
    line = bytearray(encode(mark)[:-1])
    line[at % len(line)] ^= mask
    found = decode(bytes(line), 32)
    assert found is None or encode(found)[:-1] == bytes(line) or found.time == mark.time


def test_a_long_reason_is_cut_and_patterns_never_are() -> None:
    patterns = tuple(f"layer{number}" for number in range(500))
    line = encode(Mark("a" * 32, NOW, ("é" * limits.MAX_MARK_LINE_BYTES, *patterns)))
    assert len(line) <= limits.MAX_MARK_LINE_BYTES
    found = decode(line[:-1], 32)
    assert found is not None and found.texts[1:] == patterns and len(found.texts[0]) > 1000
    with pytest.raises(UsageError, match="patterns"):
        encode(Mark("a" * 32, NOW, ("", *(f"layer{number}" for number in range(3000)))))


def test_what_was_dropped_is_replaced_and_forgotten(tmp_path: Path) -> None:
    drops = Drops(tmp_path, 32)
    assert drops.read() == {} and drops.state("a" * 32) == "present" and drops.content() == b""
    drops.add([Drop("a" * 32, NOW, "--keep-last 1", ("optimizer",)), Drop("b" * 32, NOW, "--keep-last 1")])
    other = Drops(tmp_path, 32)
    assert (other.state("a" * 32), other.state("b" * 32)) == ("partial", "dropped")
    drops.add([Drop("a" * 32, NOW, "--keep-last 2")])
    assert other.get("a" * 32) == Drop("a" * 32, NOW, "--keep-last 2")
    drops.forget(["a" * 32, "c" * 32])
    assert set(other.read()) == {"b" * 32}


def test_a_damaged_line_hides_no_other(tmp_path: Path) -> None:
    drops = Drops(tmp_path, 32)
    drops.add([Drop(digit * 32, NOW, "--keep-last 1") for digit in "abc"])
    lines = (tmp_path / "dropped").read_bytes().split(b"\n")
    lines[2] = lines[2].replace(b" ", b"", 1)
    (tmp_path / "dropped").write_bytes(b"\n".join(lines))
    again = Drops(tmp_path, 32)
    assert set(again.read()) == {"a" * 32, "c" * 32} and "damaged lines: 3;" in again.problem()
    assert again.get("b" * 32) is None and again.get("c" * 32) is not None


@given(st.lists(MARKS, min_size=1, max_size=3, unique_by=lambda mark: mark.commit), st.data())
def test_every_flipped_bit_and_every_cut_is_told(marks: list[Mark], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pins"
        MarkFile(Path(directory), "pins", 32).update(added=marks)
        content = bytearray(path.read_bytes())
        if data.draw(st.booleans()):
            bit = data.draw(st.integers(0, 8 * len(content) - 1))
            content[bit // 8] ^= 1 << bit % 8
        else:
            del content[data.draw(st.integers(1, len(content) - 1)) :]
        path.write_bytes(content)
        damaged = MarkFile(Path(directory), "pins", 32)
        assert damaged.problem()
        with pytest.raises(CorruptError):
            damaged.read_whole()


def test_files_of_before_there_were_checksums_are_read(tmp_path: Path) -> None:
    line = encode(Mark("a" * 32, NOW, ("--keep-last 1",)))
    (tmp_path / "dropped").write_bytes(line)
    drops = Drops(tmp_path, 32)
    assert set(drops.read()) == {"a" * 32} and not drops.problem()
    drops.add([Drop("b" * 32, NOW, "--keep-last 1")])
    assert (tmp_path / "dropped").read_bytes().startswith(b"check ")
    (tmp_path / "dropped").write_bytes(line[:30])
    assert drops.problem()


def test_nothing_is_added_to_drops_that_were_changed(tmp_path: Path) -> None:
    drops = Drops(tmp_path, 32)
    drops.add([Drop("a" * 32, NOW, "--keep-last 1", ("optimizer",))])
    path = tmp_path / "dropped"
    path.write_bytes(path.read_bytes().replace(b"\toptimizer", b")optimizer"))  # a bit of the TAB
    with pytest.raises(CorruptError, match="first line"):
        drops.add([Drop("b" * 32, NOW, "--keep-last 1")])
    with pytest.raises(CorruptError, match="first line"):
        drops.forget(["a" * 32])
    assert b"b" * 32 not in path.read_bytes()


def test_damaged_pins_are_not_added_to(tmp_path: Path) -> None:
    pins = Pins(tmp_path, 32)
    pins.add(Pin("a" * 32, NOW, "why\tnot\n"))
    assert Pins(tmp_path, 32).read() == {"a" * 32: Pin("a" * 32, NOW, "why\tnot\n")}
    (tmp_path / "pins").write_bytes((tmp_path / "pins").read_bytes()[5:])
    for change in (pins.read, lambda: pins.add(Pin("b" * 32, NOW)), lambda: pins.remove("a" * 32)):
        with pytest.raises(CorruptError, match="damaged lines: 1"):
            change()


def test_a_file_beyond_all_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MARKS_BYTES", 100)
    drops = Drops(tmp_path, 32)
    with pytest.raises(UsageError, match="more than castore reads"):
        drops.add([Drop(digit * 32, NOW, "--keep-last 1") for digit in "abc"])
    assert not (tmp_path / "dropped").exists()
    (tmp_path / "dropped").write_bytes(b"x" * 101)
    with pytest.raises(CorruptError, match="larger"):
        drops.read()
