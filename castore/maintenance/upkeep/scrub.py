"""Scrub: reads all of a store's bytes again and again, a share at a time, so that damage is found while copies exist.

Packs are read in the order of their ids, which are hashes: a round goes over them all, and what is added behind it is
read in the next one. So every byte is read once in the time that `[scrub] within` says, and a pack that gc or repack
writes meanwhile is new, and was checked when it was copied. Files that are no packs are read in each run.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field

from castore.chunks import pack
from castore.errors import CorruptError
from castore.maintenance.affected import affected
from castore.maintenance.damage import tell_of_damage
from castore.maintenance.file_checks import check_files
from castore.maintenance.history_check import check_history
from castore.maintenance.pace import Pace
from castore.maintenance.records import CheckedRecord, check_records, pack_name
from castore.maintenance.reports import FsckError, ScrubReport
from castore.maintenance.upkeep.state import ScrubState, State
from castore.repo import Repository

_SAVE_EVERY_S = 10.0  # what a kill loses of the place


@dataclass(slots=True)
class _Found:
    """errors: of packs, and of records that nobody reads. bad: records that are lost."""

    errors: list[FsckError] = field(default_factory=list)
    bad: dict[bytes, FsckError] = field(default_factory=dict)
    read_bytes: int = 0


def scrub(repo: Repository, pace: Pace, within_s: float | None = None, every_s: float = 0.0) -> ScrubReport:
    """Go on where the last scrub stopped. What is wrong is reported, with an alert.

    within_s: read no more than what this run has to, for a round to take so long with a run every `every_s`; None: the
    rest of the round. Call with nobody else at upkeep (`State` has one writer).
    """
    state = State.read(repo.path)
    now = time.time()
    warnings = []
    if state.scrub.began is not None and state.scrub.began > now:
        warnings.append("the scrub began in the future, so a clock was wrong: its time counts from now on")
        state.scrub.began = now
    if state.scrub.began is None:
        state.scrub = ScrubState(now, damaged_before=state.scrub.damaged_before, finished=state.scrub.finished)
    sizes = _sizes(repo)
    share = 1.0 if within_s is None else min(1.0, (now - (state.scrub.began or now) + every_s) / within_s)
    run = _Run(repo, pace, state, sizes, int(share * sum(sizes.values())))
    errors: list[FsckError] = []
    run.found.errors.extend(check_files(repo))  # small, so each run reads all of them
    try:
        run.go()
    finally:  # also of a run that is interrupted: what it found is told before its place is noted
        errors = _with_affected(repo, run.found)
        if errors:
            tell_of_damage(repo, errors, "scrub")
        state.write(repo.path, repo.lock)
    return ScrubReport(
        done=run.reached,
        read_bytes=run.found.read_bytes,
        share=1.0 if state.scrub.began is None else run.position() / (sum(sizes.values()) or 1),
        finished=state.scrub.began is None,
        errors=tuple(errors),
        warnings=tuple(warnings),
    )


def _sizes(repo: Repository) -> dict[bytes, int]:
    """Every pack with its size: those that the index knows, and those that it leaves out since they are damaged."""
    sizes: dict[bytes, int] = repo.chunks.access.use(lambda index: dict(index.packs()))
    for pack_id in repo.chunks.files.ids():
        if pack_id not in sizes:
            with contextlib.suppress(FileNotFoundError):
                sizes[pack_id] = repo.chunks.files.size(pack_id)
    return sizes


class _Run:
    """One run, from the state's place on. goal: how many bytes from the round's beginning on to get to."""

    def __init__(self, repo: Repository, pace: Pace, state: State, sizes: dict[bytes, int], goal: int) -> None:
        self._repo = repo
        self._pace = pace
        self._state = state
        self._sizes = sizes
        self._goal = goal
        self._saved = time.monotonic()
        self._behind = 0  # bytes of the packs before the one that is read
        self.found = _Found()
        self.reached = False

    def position(self) -> int:
        """How many bytes of the round are behind."""
        return self._behind + self._state.scrub.offset

    def go(self) -> None:
        """Read on until the goal, the deadline or the end of the round."""
        place = self._state.scrub
        self._behind = sum(size for one, size in self._sizes.items() if one.hex() < place.pack)
        self.reached = self.position() >= self._goal < sum(self._sizes.values())
        if self.reached:
            return
        self._repo.progress.start("Scrubbing", max(0, self._goal - self.position()), "bytes")
        try:
            for pack_id in sorted(one for one in self._sizes if one.hex() >= place.pack):
                if pack_id.hex() != place.pack:
                    place.pack, place.offset = pack_id.hex(), 0
                if not self._go_through(pack_id):
                    return
                self._behind += self._sizes[pack_id]
                place.offset = 0
            self._state.scrub = ScrubState(damaged_before=place.damaged, finished=time.time())
            self.reached = True
        finally:
            self._repo.progress.finish()

    def _go_through(self, pack_id: bytes) -> bool:
        """Read a pack from the place on. False: the goal or the deadline came before its end."""
        self._repo.chunks.files.forget(pack_id)  # the file of that name is meant, not one that was deleted
        try:
            self._repo.chunks.files.drop_cache(pack_id)
            began = time.monotonic()
            for record in check_records(self._repo, pack_id, self._entries(pack_id), self._state.scrub.offset):
                self._note(record)
                self._pace.rest(began, record.read_bytes)
                if self.reached or self._pace.is_over():
                    return False
                began = time.monotonic()
            self._repo.chunks.files.drop_cache(pack_id)  # training has a better use for the memory
        except FileNotFoundError:
            self._missing(pack_id)
        return True

    def _note(self, record: CheckedRecord) -> None:
        if record.error is not None and record.lost:
            self.found.bad[record.id] = record.error
        elif record.error is not None:
            self.found.errors.append(record.error)
        place = self._state.scrub
        place.damaged += record.error is not None
        place.offset = record.end
        self.found.read_bytes += record.read_bytes
        self.reached = self.position() >= self._goal
        sound = not self.found.bad and not self.found.errors  # what is not told of yet is to be found again
        if sound and time.monotonic() > self._saved + _SAVE_EVERY_S:
            self._state.write(self._repo.path, self._repo.lock)
            self._saved = time.monotonic()
        self._repo.progress.advance(record.read_bytes)

    def _entries(self, pack_id: bytes) -> list[pack.Entry]:
        """What is in a pack, by its footer, or where that is damaged by the index."""
        try:
            return self._repo.chunks.files.footer(pack_id)
        except CorruptError as error:
            self._add(FsckError(str(error), pack_name(pack_id)))
            return [place.entry(one) for one, place in self._repo.chunks.access.index.in_packs((pack_id,))]

    def _missing(self, pack_id: bytes) -> None:
        """A pack is not there: gc or repack deleted it since it was listed, or the disk lost it."""
        with self._repo.lock.held():
            self._repo.chunks.access.refresh()
            if pack_id not in self._repo.chunks.access.index.packs():
                return
        self._add(FsckError("the pack is gone; restore it from a copy", pack_name(pack_id)))
        for one, _ in self._repo.chunks.access.index.in_packs((pack_id,)):
            self.found.bad[one] = FsckError("it was in a pack that is gone", pack_name(pack_id), one.hex())

    def _add(self, error: FsckError) -> None:
        self.found.errors.append(error)
        self._state.scrub.damaged += 1


def _with_affected(repo: Repository, found: _Found) -> list[FsckError]:
    if not found.bad:
        return found.errors
    commits, errors, _ = check_history(repo)
    unreadable = [error.record for error in errors if error.record]
    return [*found.errors, *affected(repo, found.bad, commits, unreadable)]
