"""One line of a reflog: what a ref was, what it became, by whom, when and why. Pure: bytes in, bytes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from castore import limits
from castore.errors import UsageError

CANCEL = b"\x18"  # ends a line whose writer died in the middle of it; no whole line contains a control character

_MAX_AUTHOR_BYTES = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_LINE = re.compile(
    r"(?P<old>[0-9a-f]+) (?P<new>[0-9a-f]+) (?P<author>[^\t]*) "
    r"(?P<sign>-?)(?P<seconds>[0-9]{1,12})\.(?P<micros>[0-9]{6}) (?P<zone>[+-][0-9]{4})\t(?P<message>[^\t]*)"
)
_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f\\\\\u2028\u2029\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:([\\nt])|u([0-9a-f]{4}))")
_SHORT = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_LONG = {"\\": "\\", "n": "\n", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a ref, when (with a UTC offset) and why: what a reflog line says beside the ids."""

    author: str
    time: datetime
    message: str


@dataclass(frozen=True, slots=True)
class ReflogEntry:
    """One change of a ref. old: the commit id before, None where the ref is new. new: the commit id after."""

    old: str | None
    new: str
    author: str
    time: datetime
    message: str


def encode(entry: ReflogEntry) -> bytes:
    """The entry's line, newline included, at most limits.MAX_REFLOG_LINE_BYTES long: a long message is cut short.

    Raises UsageError for a time without a UTC offset.
    """
    old = entry.old if entry.old is not None else "0" * len(entry.new)
    author = _escaped(entry.author, _MAX_AUTHOR_BYTES)
    head = f"{old} {entry.new} {author} {_format_time(entry.time)}\t".encode()
    message = _escaped(entry.message, limits.MAX_REFLOG_LINE_BYTES - len(head) - 1)
    return head + message.encode() + b"\n"


def decode(line: bytes, id_hex_length: int) -> ReflogEntry | None:
    """The entry of a line without its newline, or None where the line is damaged."""
    try:
        found = _LINE.fullmatch(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    if found is None or not len(found["old"]) == len(found["new"]) == id_hex_length:
        return None
    zeros = "0" * id_hex_length
    time, author, message = _parse_time(found), _unescaped(found["author"]), _unescaped(found["message"])
    if found["new"] == zeros or time is None or author is None or message is None:
        return None
    return ReflogEntry(None if found["old"] == zeros else found["old"], found["new"], author, time, message)


def _format_time(time: datetime) -> str:
    offset = time.utcoffset()
    if offset is None:
        raise UsageError(f"the time {time.isoformat()} has no UTC offset; pass an aware datetime")
    micros = (time - _EPOCH) // _MICROSECOND
    seconds, fraction = divmod(abs(micros), 1_000_000)
    minutes = abs(offset) // timedelta(minutes=1)
    zone = f"{'-' if offset < timedelta(0) else '+'}{minutes // 60:02d}{minutes % 60:02d}"
    return f"{'-' if micros < 0 else ''}{seconds}.{fraction:06d} {zone}"


def _parse_time(found: re.Match[str]) -> datetime | None:
    micros = int(found["seconds"]) * 1_000_000 + int(found["micros"])
    minutes = int(found["zone"][1:3]) * 60 + int(found["zone"][3:])
    sign = -1 if found["zone"].startswith("-") else 1
    try:
        zone = timezone(sign * timedelta(minutes=minutes))
        return (_EPOCH + (-micros if found["sign"] else micros) * _MICROSECOND).astimezone(zone)
    except (ValueError, OverflowError):  # a zone of 24 hours and more; a year beyond 9999
        return None


def _escaped(text: str, max_bytes: int) -> str:
    """Escape what would break a line. Cut at a whole character where the UTF-8 of the result would exceed the bound."""
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


def _unescaped(text: str) -> str | None:
    """Undo `_escaped`, or None where a backslash or a raw control character says that we did not write this."""
    plain = _ESCAPE.sub("", text)
    if _SPECIAL.search(plain):
        return None
    return _ESCAPE.sub(lambda found: _LONG[found[1]] if found[1] else chr(int(found[2], 16)), text)
