"""How values are read from the command line and shown."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore.cli import output
from castore.cli.options import parse_time
from castore.quantities import size

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (-2000, "-2.00 kB"),
        (95_123_456, "95.1 MB"),
        (999_499, "999 kB"),
        (999_500, "1.00 MB"),
        (1_047_000_000, "1.05 GB"),
        (3 * 10**18, "3000 PB"),
    ],
)
def test_sizes_have_three_digits_in_decimal_units(count: int, text: str) -> None:
    assert size(count) == text


@given(st.integers(0, 10**17))
def test_a_size_is_near_what_it_says(count: int) -> None:
    number, unit = size(count).split()
    shown = float(number) * 1000 ** ["B", "kB", "MB", "GB", "TB", "PB"].index(unit)
    assert abs(shown - count) <= 0.006 * count


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("now", NOW),
        ("30.days", NOW - timedelta(days=30)),
        ("1.day", NOW - timedelta(days=1)),
        ("2.weeks.ago", NOW - timedelta(weeks=2)),
        ("12.hours", NOW - timedelta(hours=12)),
        ("2026-01-31T10:00:00+02:00", datetime(2026, 1, 31, 8, 0, tzinfo=timezone.utc)),
        ("2026-01-31T08:00:00Z", datetime(2026, 1, 31, 8, 0, tzinfo=timezone.utc)),
        ("2026-01-31", datetime(2026, 1, 31).astimezone()),
    ],
)
def test_times_are_now_ages_or_iso(text: str, time: datetime) -> None:
    assert parse_time(text, NOW) == time


@pytest.mark.parametrize("text", ["", "Z", "soon", "days", "-3.days", "1.fortnight", "99999999999.days", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises((ValueError, OverflowError)):
        parse_time(text, NOW)


@given(st.text())
def test_text_from_a_store_cannot_steer_the_terminal_or_break_a_line(text: str) -> None:
    assert output.printable(text).isprintable()
    assert not text.isprintable() or output.printable(text) == text


def test_json_has_strings_for_what_it_has_no_numbers_for(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"loss": [float("nan"), float("inf"), float("-inf"), 0.5, None, {"deep": float("nan")}]})
    assert json.loads(capsys.readouterr().out) == {"loss": ["nan", "inf", "-inf", 0.5, None, {"deep": "nan"}]}


def test_tables_align_whatever_their_colours(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "size"), [(output.red("a"), "1"), ("bcdefg", "1000")], numeric=(1,))
    assert capsys.readouterr().out.splitlines() == ["name    size", "a          1", "bcdefg  1000"]


def test_an_empty_table_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(("name", "size"), [])
    output.print_fields([])
    assert capsys.readouterr().out == ""
