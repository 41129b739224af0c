"""Text and times as they stand in the lines of the store's small files: reflogs, pins, what was dropped. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from castore.errors import UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u2028\u2029\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:([\\nt])|u([0-9a-f]{4}))")
_SHORT = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_LONG = {"\\": "\\", "n": "\n", "t": "\t"}

TIME = r"(?P<sign>-?)(?P<seconds>[0-9]{1,12})\.(?P<micros>[0-9]{6}) (?P<zone>[+-][0-9]{4})"


def format_time(time: datetime) -> str:
    """A time as `TIME` matches it. Raises UsageError for one without a UTC offset."""
    offset = time.utcoffset()
    if offset is None:
        raise UsageError(f"the time {time.isoformat()} has no UTC offset; pass an aware datetime")
    micros = (time - _EPOCH) // _MICROSECOND
    seconds, fraction = divmod(abs(micros), 1_000_000)
    minutes = abs(offset) // timedelta(minutes=1)
    zone = f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    return f"{'-' if micros < 0 else ''}{seconds}.{fraction:06d} {zone}"


def parse_time(found: re.Match[str]) -> datetime | None:
    """The time of a match of `TIME`; None where there is no such time."""
    micros = int(found["seconds"]) * 1_000_000 + int(found["micros"])
    minutes = int(found["zone"][1:3]) * 60 + int(found["zone"][3:])
    sign = -1 if found["zone"].startswith("-") else 1
    try:
        zone = timezone(sign * timedelta(minutes=minutes))
        return (_EPOCH + (-micros if found["sign"] else micros) * _MICROSECOND).astimezone(zone)
    except (ValueError, OverflowError):  # a zone of 24 hours and more; a year beyond 9999
        return None


def escaped(text: str, max_bytes: int) -> str:
    """Escape what would break a line. Cut at a whole character where the UTF-8 of the result would exceed the bound."""
    if not _SPECIAL.search(text) and len(text.encode()) <= max_bytes:
        return text
    pieces, left = [], max_bytes
    for piece in _escaped_characters(text):
        left -= len(piece.encode())
        if left < 0:
            break
        pieces.append(piece)
    return "".join(pieces)


def _escaped_characters(text: str) -> Iterator[str]:
    for character in text:
        yield _SPECIAL.sub(lambda found: _SHORT.get(found.group()) or f"\\u{ord(found.group()):04x}", character)


def unescaped(text: str) -> str | None:
    """Undo `escaped`, or None where a backslash or a raw control character says that we did not write this."""
    plain = _ESCAPE.sub("", text)
    if _SPECIAL.search(plain):
        return None
    return _ESCAPE.sub(lambda found: _LONG[found[1]] if found[1] else chr(int(found[2], 16)), text)
