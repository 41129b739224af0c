"""Spans of time and sizes as people write them, and as rules show them again."""

from __future__ import annotations

import re
from datetime import timedelta

from castore.errors import UsageError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(?:\d+[smhdw])+")
_PART = re.compile(r"(\d+)([smhdw])")
_WORDS = re.compile(r"(\d+)[. ]?(second|minute|hour|day|week)s?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kMGTP]?)(i?)B?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_MOST_DAYS = 36500


def count(name: str, text: str) -> int:
    """A whole number from 1 on. Raises UsageError that names the rule."""
    if not re.fullmatch(r"\d{1,12}", text) or int(text) < 1:
        raise UsageError(f"{name} takes a whole number from 1 on, not {text!r}")
    return int(text)


def span(name: str, text: str) -> timedelta:
    """A span of time: "12h", "7d", "1w2d", "30.days". Raises UsageError that names the rule."""
    words = _WORDS.fullmatch(text)
    if words is not None:
        text = words[1] + words[2][0]
    if _SPAN.fullmatch(text):
        seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        if seconds <= _MOST_DAYS * 86400:
            return timedelta(seconds=seconds)
    raise UsageError(f"{name} takes a span of time such as 12h, 7d or 1w2d, not {text!r}")


def size(name: str, text: str) -> int:
    """A number of bytes: "500MB", "1.5 TB", "10GiB". Raises UsageError that names the rule."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise UsageError(f"{name} takes a size such as 500MB, 1.5TB or 10GiB, not {text!r}")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2].lower()])
