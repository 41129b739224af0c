"""Whether the audit log is whole: its chain, its numbers, and what it says of the refs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from castore.history.audit import BEGIN, AuditLog, Line, is_cut_short
from castore.history.audit_line import AuditEntry


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found. entries: how many can be read. head: the hash of the last of them, "" where there is none.

    errors: what is wrong, a line each, the first broken entry first. notes: what a crash may have left, or a hand.
    broken: what is wrong with the log itself, whatever refs are at; "" for nothing.
    """

    entries: int
    head: str
    errors: tuple[str, ...]
    notes: tuple[str, ...] = ()
    broken: str = ""

    @property
    def ok(self) -> bool:
        return not self.errors


def check(log: AuditLog, size: int, refs: Mapping[str, str], known_head: str | None) -> AuditReport:
    """Read the first `size` bytes of a log. refs: every branch and tag, by full name, as they were then.

    known_head: the hash of an entry that was there before, and must be now. Of a broken chain only the first break is
    named: what comes after it proves nothing.
    """
    entries, head, broken, is_known = 0, "", "", False
    notes: list[str] = []
    newest: dict[str, AuditEntry] = {}  # by ref
    last: AuditEntry | None = None
    for line in log.lines(size):
        broken = broken or _break(line, entries)
        if line.entry is None:
            continue
        entries, head, last = entries + 1, line.entry.hash, line.entry
        is_known = is_known or head == known_head
        if line.entry.event.action == BEGIN:
            notes.append(f"entry {line.entry.number} began the log when the store was there already")
        event = line.entry.event
        if event.subject.startswith("refs/") and (event.old or event.new):  # else it is of the ref's log
            newest[event.subject] = line.entry
    errors = [broken] if broken else []
    if entries == 0:
        errors.append("there is no audit log, or nothing in it; it begins with the next change")
    if known_head is not None and not is_known:
        errors.append(f"no entry has the hash {known_head}: the log was cut short, or written anew")
    if is_cut_short(last):
        notes.append("a crash cut the beginning of the log short; the next change completes it")
    known = newest.keys() if is_cut_short(last) else newest.keys() | refs.keys()
    for ref in sorted(known) if entries else ():
        error, note = _against(ref, refs.get(ref), newest.get(ref))
        errors.extend(error)
        notes.extend(note)
    return AuditReport(entries, head, tuple(errors), tuple(notes), broken)


def _break(line: Line, entries: int) -> str:
    """What is wrong with a line of a chain that was whole before it."""
    if line.entry is None:
        return "" if line.torn else f"line {line.number} of the audit log is damaged: entry {entries + 1} is not there"
    if line.entry.number != entries + 1:
        return f"entry {entries + 1} is missing: line {line.number} has entry {line.entry.number}"
    if line.entry.hash != line.hash:
        return f"entry {line.entry.number} was changed, or what stands before it: its hash is wrong"
    return ""


def _against(ref: str, present: str | None, last: AuditEntry | None) -> tuple[list[str], list[str]]:
    """Errors and notes on a ref, from what it holds (None: it is not there) and the newest entry on it."""
    if last is None:
        return [f"{ref} is at {present}, and no entry made it"], []
    if last.event.new == present:
        return [], []
    is_now = "is not there" if present is None else f"is at {present}"
    if last.event.old == present:
        return [], [f"{ref} {is_now}: entry {last.number}, its last one, was not carried out, or undone by hand"]
    became = "was deleted" if last.event.new is None else f"went to {last.event.new}"
    return [f"{ref} {is_now}, but by entry {last.number}, its last one, it {became}"], []
