"""A disk that refuses an operation of a scenario: each in turn, with each of the errors that disks have."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import castore
from castore.errors import CastoreError, StorageError
from castore.store import Store
from castore.testing import faults
from castore.testing.power_cuts import Recording, recording
from castore.testing.survival import Account, violation
from tests.crashes.scenarios import SCENARIOS, Scene, played, state

ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
REFUSED = [name for name in SCENARIOS if not name.endswith("killed")]  # those that run from begin to end


@dataclass(slots=True)
class _Refused(Scene):
    """A scenario that is played on a disk which refuses one operation; what it says then is kept."""

    name: str = ""
    nth: int = 1
    error: int = errno.EIO
    acknowledged: int = 0
    raised: CastoreError | None = None
    struck: bool = False
    refused: faults.Operation | None = None  # unless it is a write that is cut short

    @contextlib.contextmanager
    def recorded(self, known: Store | Account) -> Iterator[Recording]:
        with recording(self.root) as record:
            record.acknowledge(known)
        with faults.inject(self.name, self.nth, self.error) as fault:
            try:
                yield record
            except CastoreError as error:
                self.raised = error
        self.acknowledged = len(record.acknowledged)
        self.struck = fault.struck
        if fault.struck and not self.name:
            self.refused = fault.operations[self.nth - 1]


def refusals(name: str, root: Path, errors: tuple[int, ...] = ERRORS, each: bool = False) -> Iterator[str | None]:
    """Play a scenario once for each of its operations, which fails, and once for each write, which is cut short.

    What is wrong each time, None for nothing. each: every operation with every error, not with one in turn.
    """
    whole = played(name, root / "whole")
    nth, struck = 0, True
    while struck:
        nth += 1
        for error in errors if each else errors[nth % len(errors) :][:1]:
            scene = _play(name, _Refused(root / f"{nth}-{error}", nth=nth, error=error))
            struck = scene.struck
            if scene.refused is not None:
                found = _problem(scene, whole)
                what = f"{scene.refused.name} of {scene.refused.path}"
                yield found and f"{name}: operation {nth}, {what}, {errno.errorcode[error]}: {found}"
    # Where threads fill packs their names differ from time to time, and two of a pack's first letters share a directory
    if nth <= len(whole.traces[0].operations) * 3 // 4:
        yield f"{name}: it ended before operation {nth}"
    for nth in range(1, 1 + sum(operation.name in ("write", "append") for operation in whole.traces[0].operations)):
        scene = _play(name, _Refused(root / f"short-{nth}", name="short_write", nth=nth))
        found = _problem(scene, whole) if scene.struck else None
        yield found and f"{name}: write {nth} cut short: {found}"


def _play(name: str, scene: _Refused) -> _Refused:
    scene.root.mkdir()
    SCENARIOS[name](scene)
    return scene


def _problem(scene: _Refused, whole: Scene) -> str | None:
    if scene.raised is not None and not isinstance(scene.raised, StorageError):
        return f"raised {scene.raised!r}"
    if scene.raised is not None and "\n" in str(scene.raised):
        return "the message has several lines"
    if scene.raised is None and scene.refused is not None and not _may_go_untold(scene.refused):
        return "it went on as if nothing had been refused"
    told = [one.account for one in whole.traces[0].acknowledged[scene.acknowledged - 1 : scene.acknowledged + 1]]
    with castore.open(scene.root, create=True) as store:
        if scene.is_damaged:
            store.fsck(repair=True)
        seen = Account.of(store)
    for part in ("branches", "tags"):
        any_of = [getattr(one, part) for one in told]
        for ref in {ref for refs in any_of for ref in refs}:
            if getattr(seen, part).get(ref) not in [refs.get(ref) for refs in any_of]:
                return f"{part}: {ref} is at {getattr(seen, part).get(ref)}"
    return violation(scene.root, [seen], whole.states, state(99))


def _may_go_untold(operation: faults.Operation) -> bool:
    """What costs nobody anything: an empty directory that stays; a mark on the lock, which makes the next one sync once
    more; an event that is not counted, of which a line on stderr tells."""
    marks_lock = operation.name == "resize" and operation.path.name == "lock"
    return operation.name == "remove_dir" or marks_lock or operation.path.name == "events"
