"""What happened in a store, an event a line, appended to a file of bounded size: what metrics are made of.

Nothing depends on them. A line is one write, never synced and without the store's lock, so that the training loop can
afford it; one that a crash tore is skipped. What can be read from commits is not written here once more.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castore import _fs, limits
from castore.errors import CastoreError, CorruptError, LockTimeoutError, RefConflictError, StorageError
from castore.history.ref_files import read_small
from castore.monitoring.tally import TOTALS, Tally

NAME = "events"
OLDER = "events.1"
LOCK = "events.lock"

# What went wrong with a store, rather than with what was asked of it
FAILURES = (StorageError, CorruptError, LockTimeoutError, RefConflictError)


@dataclass(frozen=True, slots=True)
class Event:
    """time: when it was over, in seconds since 1970. kind: what it was. facts: numbers and texts by name."""

    time: float
    kind: str
    facts: Mapping[str, Any]


class Events:
    """The events of one store."""

    def __init__(self, root: Path, read_only: bool, note: Callable[[str], None]) -> None:
        """root: the store's own directory. read_only: keep nothing. note: is told, once, what keeps events from being
        written."""
        self._root = root
        self.read_only = read_only
        self._note = note
        self._lost = 0

    def record(self, kind: str, **facts: Any) -> None:
        """Append an event. Never raises: one that can't be written is counted, and the next one says how many were."""
        if self.read_only:
            return
        if self._lost:
            facts["lost"] = self._lost
        try:
            line = encode(Event(time.time(), kind, facts))
            _fs.append(self._root / NAME, b"\n" * bool(self._lost) + line, durable=False)  # ends a torn line
            self._lost = 0
        except (StorageError, FileNotFoundError) as error:
            if not self._lost:
                self._note(f"what happens is not recorded for metrics: {error}")
            self._lost += 1

    def bound(self) -> None:
        """Begin the file anew where it has grown to its bound. Takes a second then: not for a training loop to call.

        Never raises: it is tried again by the next one.
        """
        try:
            if not self.read_only and (self._root / NAME).stat().st_size >= limits.MAX_EVENTS_BYTES:
                self._begin_anew()
        except FileNotFoundError:
            pass  # another process has just put it aside
        except CastoreError as error:
            self._note(f"the events in {self._root / NAME} grow beyond their bound: {error}")

    @contextlib.contextmanager
    def timed(self, kind: str, **facts: Any) -> Iterator[dict[str, Any]]:
        """Record what the body does, with the seconds that it took and the facts that it adds, or that it failed."""
        started = time.perf_counter()
        try:
            yield facts
        except FAILURES as error:
            self.failed(facts.get("task", kind), error)
            raise
        self.record(kind, seconds=round(time.perf_counter() - started, 4), **facts)
        self.bound()

    def failed(self, what: str, error: CastoreError) -> None:
        """Record a failure. what: such as "commit", or the name of a task."""
        self.record("failure", of=what, error=type(error).__name__, text=str(error)[:500])

    def read(self) -> Iterator[Event]:
        """What is still there, oldest first. Raises CorruptError for what is no file of ours."""
        for name in (OLDER, NAME):
            yield from (event for event in self._of(name) if event.kind != TOTALS)

    def tally(self) -> Tally:
        """Sums over all events that there ever were. Raises CorruptError as `read`."""
        before, since = self._sums(NAME)
        if before is None:  # there is but one file, or a crash came before the totals were written
            before, older = self._sums(OLDER)
            since = older + since
        return since if before is None else before + since

    def _sums(self, name: str) -> tuple[Tally | None, Tally]:
        """Of a file: the totals of all that came before it, if it has them, and the sums of its own events."""
        before, since = None, Tally()
        for event in self._of(name):
            if event.kind == TOTALS:
                before = Tally.of_facts(event.facts)
            else:
                since.add(event.kind, event.facts)
        return before, since

    def _of(self, name: str) -> Iterator[Event]:
        data = read_small(self._root, name, 2 * limits.MAX_EVENTS_BYTES) or b""
        for line in data.split(b"\n"):
            event = decode(line)
            if event is not None:
                yield event

    def _begin_anew(self) -> None:
        """Put the file aside, in place of the one before; what was counted goes on in the new one. Raises StorageError,
        CorruptError, FileNotFoundError."""
        with _fs.alone(self._root / LOCK) as alone:
            if not alone or (self._root / NAME).stat().st_size < limits.MAX_EVENTS_BYTES:
                return
            totals = self.tally()
            _fs.rename(self._root / NAME, self._root / OLDER)
            _fs.append(self._root / NAME, encode(Event(time.time(), TOTALS, totals.facts())), durable=False)


def encode(event: Event) -> bytes:
    """The event's line, newline included."""
    import json

    return json.dumps({"time": round(event.time, 3), "event": event.kind, **event.facts}).encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """The event of a line without its newline; None for one that is torn, or that no castore wrote."""
    import json

    if not line.startswith(b"{") or len(line) >= limits.MAX_EVENT_LINE_BYTES:
        return None
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    when, kind = facts.pop("time", None), facts.pop("event", None)
    if type(when) not in (int, float) or not isinstance(kind, str) or not math.isfinite(when):
        return None
    return Event(float(when), kind, facts)
