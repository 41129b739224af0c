"""One line of the audit log: who did what, when, and a hash that vouches for it. Pure: bytes in, bytes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from castore import limits
from castore.history.line_text import TIME, escaped, format_time, parse_time, unescaped

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

_MAX_WORD_BYTES = 1024  # of who, and of what it was done to
_LINE = re.compile(
    rf"(?P<number>[1-9][0-9]{{0,17}}) (?P<hash>[0-9a-f]{{64}}) {TIME}\t(?P<who>[^\t]*)\t(?P<action>[a-z-]{{1,40}})"
    r"\t(?P<subject>[^\t]*)\t(?P<old>-|[0-9a-f]{1,128})\t(?P<new>-|[0-9a-f]{1,128})\t(?P<detail>[^\t]*)"
)


@dataclass(frozen=True, slots=True)
class Event:
    """What is done. action: a word, such as "commit" or "gc". subject: the ref by its full name, or the commit, that it
    is done to, "" for the store. old, new: what a ref is before and after, None where there is nothing."""

    action: str
    subject: str = ""
    old: str | None = None
    new: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event as the log has it. number: from 1 on, without gaps. who: the user of the process, whoever the author is.

    hash: SHA-256 in hex of what stands from the beginning of the entry before to the beginning of this one, and then of
    this line without the hash. So it vouches for all entries up to this one.
    """

    number: int
    hash: str
    time: datetime
    who: str
    event: Event


def encode(entry: AuditEntry) -> bytes:
    """The entry's line, newline included, at most limits.MAX_AUDIT_LINE_BYTES long: a long detail is cut short.

    Raises UsageError for a time without a UTC offset.
    """
    event = entry.event
    head = "\t".join(
        [
            f"{entry.number} {entry.hash} {format_time(entry.time)}",
            escaped(entry.who, _MAX_WORD_BYTES),
            event.action,
            escaped(event.subject, _MAX_WORD_BYTES),
            event.old or "-",
            event.new or "-",
            "",
        ]
    ).encode()
    return head + escaped(event.detail, limits.MAX_AUDIT_LINE_BYTES - len(head) - 1).encode() + b"\n"


def decode(line: bytes) -> AuditEntry | None:
    """The entry of a line with its newline, or None where it is not one that `encode` makes."""
    try:
        found = _LINE.fullmatch(line[:-1].decode("utf-8"))
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    time, who = parse_time(found), unescaped(found["who"])
    subject, detail = unescaped(found["subject"]), unescaped(found["detail"])
    if time is None or who is None or subject is None or detail is None:
        return None
    old, new = (None if found[name] == "-" else found[name] for name in ("old", "new"))
    event = Event(found["action"], subject, old, new, detail)
    entry = AuditEntry(int(found["number"]), found["hash"], time, who, event)
    return entry if encode(entry) == line else None  # there is one way to write an entry


def digest(data: bytes = b"") -> Digest:
    """SHA-256, of `data` so far."""
    from hashlib import sha256  # loads OpenSSL: commands that only read history have no use for it

    return sha256(data)


def hash_of(line: bytes, before: Digest) -> str:
    """What the hash of a line must be. before: of what stands from the beginning of the entry before to the line's."""
    number, _, rest = line.split(b" ", 2)
    whole = before.copy()
    whole.update(number + b" " + rest)
    return whole.hexdigest()
