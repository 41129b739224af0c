from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore import limits
from castore.errors import RefNameError, UsageError
from castore.history.reflog import Reflog, ReflogEntry, values
from castore.history.reflog_line import decode, encode

NOON = datetime(2025, 1, 1, 12, tzinfo=timezone.utc)
IDS = [f"{n:032x}" for n in range(1, 30)]
MAIN = "refs/heads/main"

zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
entries = st.builds(
    ReflogEntry,
    old=st.none() | st.sampled_from(IDS),
    new=st.sampled_from(IDS),
    author=st.text(max_size=60),
    time=st.datetimes(datetime(1900, 1, 1), datetime(9000, 1, 1), timezones=zones),
    message=st.text(max_size=200) | st.text(st.sampled_from("\\nt u0041\n\t\x18\x7f\u2028\ud800"), max_size=20),
)


def entry(number: int, message: str = "commit", time: datetime = NOON) -> ReflogEntry:
    return ReflogEntry(IDS[number - 1] if number else None, IDS[number], "ada", time, message)


@pytest.fixture
def reflog(tmp_path: Path) -> Reflog:
    return Reflog(tmp_path, 32, checked=True)


@given(entries)
def test_a_line_gives_back_the_entry(written: ReflogEntry) -> None:
    line = encode(written)
    assert line.endswith(b"\n")
    assert not any(byte < 0x20 and byte != 0x09 for byte in line[:-1])
    assert line.count(b"\t") == 1
    read = decode(line[:-1], 32)
    assert read == written
    assert read is not None
    assert read.time.utcoffset() == written.time.utcoffset()


@given(st.sampled_from("a\\\né€😀\ud800"), st.integers(0, 5), st.booleans())
def test_a_long_line_is_cut_between_characters(character: str, shift: int, in_author: bool) -> None:
    text = "x" * shift + character * limits.MAX_REFLOG_LINE_BYTES
    written = ReflogEntry(None, IDS[0], text if in_author else "ada", NOON, text)
    line = encode(written)
    assert limits.MAX_REFLOG_LINE_BYTES - 6 <= len(line) <= limits.MAX_REFLOG_LINE_BYTES
    read = decode(line[:-1], 32)
    assert read is not None
    assert text.startswith(read.message)
    assert written.author.startswith(read.author)


@given(st.binary(max_size=200) | entries.map(encode))
def test_no_line_crashes_the_reader(line: bytes) -> None:
    for cut in (line, line[:-1], line[1:]):
        found = decode(cut, 32)
        assert found is None or len(found.new) == 32


def test_the_line_reads_as_documented() -> None:
    zone = timezone(-timedelta(hours=3, minutes=30))
    written = ReflogEntry(None, IDS[0], "Ada L", datetime(2025, 1, 1, 8, 30, 0, 250, zone), "commit: a\tb\n\\")
    expected = f"{'0' * 32} {IDS[0]} Ada L 1735732800.000250 -0330\tcommit: a\\tb\\n\\\\\n"
    assert encode(written) == expected.encode()


@given(entries, st.data())
def test_every_flipped_bit_of_a_line_is_told(written: ReflogEntry, data: st.DataObject) -> None:
    line = bytearray(encode(written, with_check=True)[:-1])
    assert decode(bytes(line), 32) == decode(encode(written)[:-1], 32)
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    found = decode(bytes(line), 32)
    assert found is None or found.is_doubtful


def test_a_doubtful_entry_is_read_told_and_kept(reflog: Reflog, tmp_path: Path) -> None:
    for number in range(3):
        reflog.append(MAIN, entry(number))
    path = tmp_path / "logs" / MAIN
    path.write_bytes(path.read_bytes().replace(b" 1735732800.", b" 1035732800.", 1))
    assert [one.is_doubtful for one in reflog.read(MAIN)] == [True, False, False]
    assert reflog.damaged_lines(MAIN) == [1]
    reflog.expire(MAIN, NOON + timedelta(days=1))
    assert [one.new for one in reflog.read(MAIN)] == [IDS[0]]


def test_a_time_without_an_offset_is_refused() -> None:
    with pytest.raises(UsageError, match="no UTC offset"):
        encode(ReflogEntry(None, IDS[0], "ada", datetime(2025, 1, 1), ""))


def test_entries_are_read_newest_last(reflog: Reflog) -> None:
    for number in range(3):
        reflog.append("refs/heads/exp/a", entry(number))
    assert reflog.read("refs/heads/exp/a") == [entry(0), entry(1), entry(2)]
    assert reflog.read("HEAD") == reflog.read("refs/heads/none") == []
    assert reflog.refs() == ["refs/heads/exp/a"]


@pytest.mark.parametrize("ref", ["main", "refs/tags/v1", "refs/heads/../x", "head", ""])
def test_only_head_and_branches_have_logs(reflog: Reflog, ref: str) -> None:
    with pytest.raises(RefNameError):
        reflog.read(ref)


@given(cut=st.integers(1, len(encode(entry(1)))))
def test_a_line_that_a_crash_cut_short_is_skipped_and_the_next_is_not_glued_to_it(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    root = tmp_path_factory.mktemp("store")
    reflog = Reflog(root, 32, checked=True)
    reflog.append("HEAD", entry(0))
    with (root / "logs/HEAD").open("ab") as log:
        log.write(encode(entry(1))[:-cut])
    assert reflog.read("HEAD") == [entry(0)]
    reflog.append("HEAD", entry(2))
    assert reflog.read("HEAD") == [entry(0), entry(2)]
    assert reflog.damaged_lines("HEAD") == []


def test_damaged_lines_are_skipped_and_reported(reflog: Reflog, tmp_path: Path) -> None:
    for number in range(4):
        reflog.append(MAIN, entry(number))
    path = tmp_path / "logs" / MAIN
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"ada", b"\xff\xfe")
    lines[2] = b"x" * (3 * limits.MAX_REFLOG_LINE_BYTES) + b"\n"
    path.write_bytes(b"".join(lines))
    assert reflog.read(MAIN) == [entry(0), entry(3)]
    assert reflog.damaged_lines(MAIN) == [2, 3]


@pytest.mark.parametrize(
    "change",
    [
        (b" ada ", b" a\\q "),
        (b"+0000", b"+9900"),
        (b"1735732800", b"999999999999"),
        (IDS[1].encode(), b"0" * 32),
        (IDS[1].encode(), IDS[1][1:].encode()),
        (IDS[1].encode(), IDS[1].upper().replace("0", "A").encode()),
        (b"commit", b"com\tmit"),
        (b"commit", b"com\rmit"),
    ],
)
def test_a_line_with_a_wrong_field_is_damaged(change: tuple[bytes, bytes]) -> None:
    line = encode(entry(1))[:-1]
    assert decode(line, 32) == entry(1)
    assert decode(line.replace(*change), 32) is None


def test_expiry_drops_what_is_older_and_keeps_the_rest_byte_for_byte(reflog: Reflog, tmp_path: Path) -> None:
    for number in range(4):
        reflog.append(MAIN, entry(number, time=NOON + timedelta(days=number)))
    before = (tmp_path / "logs" / MAIN).read_bytes()
    assert reflog.expire(MAIN, NOON + timedelta(days=2)) == 2
    assert (tmp_path / "logs" / MAIN).read_bytes() == b"".join(before.splitlines(keepends=True)[2:])
    assert reflog.expire(MAIN, NOON + timedelta(days=2)) == 0
    assert reflog.expire(MAIN, NOON + timedelta(days=100)) == 2
    assert reflog.read(MAIN) == []
    assert reflog.expire("refs/heads/none", NOON) == 0


def test_expiry_drops_lines_that_cannot_be_read(reflog: Reflog, tmp_path: Path) -> None:
    reflog.append(MAIN, entry(0))
    with (tmp_path / "logs" / MAIN).open("ab") as log:
        log.write(b"garbage\n")
    assert reflog.expire(MAIN, NOON) == 1
    assert reflog.read(MAIN) == [entry(0)]
    assert reflog.damaged_lines(MAIN) == []


def change(old: str | None, new: str) -> ReflogEntry:
    return ReflogEntry(old, new, "ada", NOON, "")


def test_values_go_back_through_the_log() -> None:
    log = [change(None, "a"), change("a", "b"), change("b", "b"), change("b", "c")]
    assert values(log, "c") == ["c", "b", "b", "a"]


def test_a_change_that_was_logged_and_never_made_is_no_value() -> None:
    log = [change(None, "a"), change("a", "y"), change("a", "b"), change("b", "z")]
    assert values(log, "b") == ["b", "a"]


def test_what_a_deleted_branch_held_is_still_a_value() -> None:
    assert values([change(None, "a")], None) == [None, "a"]
    assert values([change(None, "a"), change(None, "b")], "b") == ["b", "a"]


def test_values_beside_a_gap_are_both_listed() -> None:
    log = [change("a", "b"), change("d", "e")]
    assert values(log, "f") == ["f", "e", "d", "b", "a"]
    assert values(log, None) == [None, "e", "d", "b", "a"]
    assert values([], "f") == ["f"]
