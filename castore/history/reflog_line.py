"""One line of a reflog: what a ref was, what it became, by whom, when and why. Pure: bytes in, bytes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from castore import limits
from castore.chunks.hashing import checksum
from castore.history.line_text import TIME, escaped, format_time, parse_time, unescaped

CANCEL = b"\x18"  # ends a line whose writer died in the middle of it; no whole line contains a control character

_MAX_AUTHOR_BYTES = 1024
_ACTION = re.compile(r"[a-z][a-z-]{0,39}")
_CHECK_BYTES = 17  # before what it vouches for: 16 hex digits and a space
_CHECK = re.compile(rb"[0-9a-f]{16} ")
_LINE = re.compile(rf"(?P<old>[0-9a-f]+) (?P<new>[0-9a-f]+) (?P<author>[^\t]*) {TIME}\t(?P<message>[^\t]*)")


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a ref, when (with a UTC offset) and why: what a reflog line says beside the ids. The message begins
    with what is done, as in Git: `commit: step 3`."""

    author: str
    time: datetime
    message: str

    @property
    def action(self) -> str:
        """What is done, in a word."""
        word = self.message.partition(":")[0]
        return word if _ACTION.fullmatch(word) else "update"

    @property
    def detail(self) -> str:
        """What the message says beyond that."""
        return self.message.partition(":")[2].strip()


@dataclass(frozen=True, slots=True)
class ReflogEntry:
    """One change of a ref. old: the commit id before, None where the ref is new. new: the commit id after.

    is_doubtful: the checksum of its line is wrong, so something in it may be too.
    """

    old: str | None
    new: str
    author: str
    time: datetime
    message: str
    is_doubtful: bool = False


def encode(entry: ReflogEntry, with_check: bool = False) -> bytes:
    """The entry's line, newline included, at most limits.MAX_REFLOG_LINE_BYTES long: a long message is cut short.

    with_check: it begins with a checksum of the rest. Raises UsageError for a time without a UTC offset.
    """
    old = entry.old if entry.old is not None else "0" * len(entry.new)
    author = escaped(entry.author, _MAX_AUTHOR_BYTES)
    head = f"{old} {entry.new} {author} {format_time(entry.time)}\t".encode()
    room = limits.MAX_REFLOG_LINE_BYTES - len(head) - 1 - (_CHECK_BYTES if with_check else 0)
    line = head + escaped(entry.message, room).encode()
    return (b"%016x " % checksum(line) if with_check else b"") + line + b"\n"


def decode(line: bytes, id_hex_length: int) -> ReflogEntry | None:
    """The entry of a line without its newline, or None where the line is damaged.

    A line of before there were checksums begins with an id, which is longer than one.
    """
    check = _CHECK.match(line)
    is_doubtful = False
    if check is not None:
        line = line[check.end() :]
        is_doubtful = int(check[0], 16) != checksum(line)
    try:
        found = _LINE.fullmatch(line.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    if found is None or not len(found["old"]) == len(found["new"]) == id_hex_length:
        return None
    zeros = "0" * id_hex_length
    time, author, message = parse_time(found), unescaped(found["author"]), unescaped(found["message"])
    if found["new"] == zeros or time is None or author is None or message is None:
        return None
    old = None if found["old"] == zeros else found["old"]
    return ReflogEntry(old, found["new"], author, time, message, is_doubtful)
