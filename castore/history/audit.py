"""The audit log: who changed the store, when and how, a line per change, each with the hash of the one before.

A line is written before what it tells of is done, so a crash in between leaves a line for what never happened, never a
change without a line. A crash in the middle of a line leaves it without its end: readers skip it, and the next append
ends it so that everyone sees. What such a line left is in the hash of the next entry, like everything in the file.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from castore import _fs, limits
from castore.history import ref_files
from castore.history.actor import now, whoami
from castore.history.audit_line import AuditEntry, Event, decode, digest, encode, hash_of
from castore.history.reflog_line import CANCEL

if TYPE_CHECKING:
    from hashlib import _Hash as Digest

NAME = "audit"
INIT, BEGIN = "init", "begin"  # what a log starts with: made with the store, or in one that was there before
FOUND = "found"  # what follows BEGIN, for each ref, and then in the same write the first change
_TAIL_BYTES = 4 * limits.MAX_AUDIT_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the log. number: from 1 on. offset: in bytes. entry: None where it is none. torn: a crash cut it short.
    hash: what the entry's should be."""

    number: int
    offset: int
    entry: AuditEntry | None
    torn: bool
    hash: str = ""


class AuditLog:
    """The log of a store: its file `audit`. Reading needs no lock; entries are added with the store's lock held."""

    def __init__(self, root: Path, enabled: bool, refs: Callable[[], Mapping[str, str]]) -> None:
        """root: the store's own directory. enabled: whether anything is added. refs: what a log that begins in a store
        with a history finds there, by full name."""
        self.enabled = enabled
        self._root = root
        self._refs = refs

    def append(self, *events: Event) -> None:
        """Add entries, durably and all at once, before what they tell of is done. Call with the store's lock held."""
        if not self.enabled or not events:
            return
        last, span, repair = self._end()
        if (last is None and events[0].action != INIT) or is_cut_short(last):
            found = [Event(FOUND, ref, None, commit) for ref, commit in sorted(self._refs().items())]
            events = (*([Event(BEGIN)] if last is None else []), *found, *events)
        time, who = now(), whoami()
        lines = [repair]
        for number, event in enumerate(events, 1 if last is None else last.number + 1):
            entry = AuditEntry(number, "0" * 64, time, who, event)
            line = encode(replace(entry, hash=hash_of(encode(entry), span)))
            span = digest(line)
            lines.append(line)
        _fs.append(self._root / NAME, b"".join(lines))

    def read(self, limit: int | None = None) -> list[AuditEntry]:
        """The entries, newest last, or the last `limit` of them. Lines that cannot be read are skipped."""
        return list(deque((line.entry for line in self.lines() if line.entry is not None), limit))

    def size(self) -> int:
        """Bytes of the log, 0 where there is none."""
        try:
            return (self._root / NAME).stat().st_size
        except FileNotFoundError:
            return 0

    def lines(self, size: int | None = None) -> Iterator[Line]:
        """Every line, oldest first; of the first `size` bytes, if given."""
        file = ref_files.open_regular(self._root, NAME)
        if file is None:
            return
        with file, _fs.storage_errors("read", self._root / NAME):
            span, number, offset = digest(), 0, 0
            end = self.size() if size is None else size
            while offset < end and (piece := file.readline(min(end - offset, limits.MAX_AUDIT_LINE_BYTES))):
                number += 1
                start, entry, due = offset, decode(piece), ""
                if entry is not None:
                    due = hash_of(piece, span)
                    span = digest()
                span.update(piece)
                offset += len(piece)
                while not piece.endswith(b"\n"):
                    piece = file.readline(min(end - offset, limits.MAX_AUDIT_LINE_BYTES))
                    if not piece:  # the last line, without its end
                        yield Line(number, start, None, True)
                        return
                    span.update(piece)
                    offset += len(piece)
                yield Line(number, start, entry, piece.endswith(CANCEL + b"\n"), due)

    def _end(self) -> tuple[AuditEntry | None, Digest, bytes]:
        """The last entry, the hash of all from its beginning on, and what must come first where a
        crash cut the last line short."""
        file = ref_files.open_regular(self._root, NAME)
        span, last = digest(), b"\n"
        if file is None:
            return None, span, b""
        with file, _fs.storage_errors("read", self._root / NAME):
            entry, offset = _last_entry(file) or self._searched()
            file.seek(offset)
            while piece := file.read(limits.MIB):
                span.update(piece)
                last = piece[-1:]
        repair = b"" if last == b"\n" else CANCEL + b"\n"
        span.update(repair)
        return entry, span, repair

    def _searched(self) -> tuple[AuditEntry | None, int]:
        """The last entry and its offset in a log that is empty, or damaged at its end; None and 0 for none."""
        found: tuple[AuditEntry | None, int] = (None, 0)
        for line in self.lines():
            if line.entry is not None:
                found = (line.entry, line.offset)
        return found


def is_cut_short(last: AuditEntry | None) -> bool:
    """Whether a crash cut a log's beginning short, by its last entry. It may lack refs; the next append names all."""
    return last is not None and last.event.action in (BEGIN, FOUND)


def _last_entry(file: BinaryIO) -> tuple[AuditEntry, int] | None:
    """The last entry and its offset, if it is near the end."""
    start = max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES)
    file.seek(start)
    tail = file.read()
    first = tail.find(b"\n") + 1 if start else 0  # what is before it may be the rest of a line
    end = tail.rfind(b"\n") + 1
    while end > first:
        begin = max(first, tail.rfind(b"\n", 0, end - 1) + 1)
        entry = decode(tail[begin:end])
        if entry is not None:
            return entry, start + begin
        end = begin
    return None
