"""Store's methods that free space and check what is there."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from castore.history.actor import now
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.verifications import Verification
    from castore.maintenance.reports import FsckReport, GcReport, RepackReport
    from castore.maintenance.verification import Replay, VerifyReport


class Upkeep(Door):
    """Garbage, the places of deltas, and damage."""

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete what no branch, tag, HEAD, pin or unexpired reflog entry leads to, and states that were dropped.

        Safe beside commits and readers.

        Raises CorruptError, before anything is deleted, when history itself can't be walked.
        """
        from castore.maintenance.gc import gc

        days = self._repo.config.reflog_expire_days
        return gc(self._repo, expire_before=now() - timedelta(days=days), dry_run=dry_run)

    def repack(
        self, dry_run: bool = False, seconds: float | None = None, bytes_per_second: float | None = None
    ) -> RepackReport:
        """Place deltas anew and merge small packs: the newest states load fast, and old ones take little.

        By `[repack]` of castore.toml, and the depths of its tiers. Safe beside commits, readers and gc. One that was
        interrupted lost its last batch at most; the next one goes on.

        seconds: after which no further batch begins. bytes_per_second: of what is encoded and moved, on the average.

        Raises LockTimeoutError when another repack is at work, CorruptError when history can't be walked.
        """
        from castore.maintenance.pace import Pace
        from castore.maintenance.repack import repack

        pace = Pace(None if seconds is None else time.monotonic() + seconds, bytes_per_second)
        return repack(self._repo, dry_run, pace)

    def fsck(self, read_data: bool = True, repair: bool = False) -> FsckReport:
        """Check every checksum, link and base; `read_data`: decode every chunk too. Finds, and raises nothing for it.

        repair: rebuild the index and take damaged records out of service, without touching good history.
        """
        from castore.maintenance.fsck import fsck

        return fsck(self._repo, read_data=read_data, repair=repair)

    def verify(self, rev: str = "HEAD", replay: Replay | None = None) -> VerifyReport:
        """Restore a commit end to end in a fresh process and check every tensor; note when that was.

        replay: steps to run again from there, whose losses are compared with those that were recorded. Finds, and
        raises nothing for it. Raises RevisionError, DroppedError; UsageError for a replay that nothing can be compared
        with, ReplayError for one whose function can't be run.
        """
        from castore.maintenance.verify import verify

        return verify(self._repo, rev, replay, now)

    def verifications(self) -> dict[str, Verification]:
        """When commits were last verified, by the id of the commit."""
        return self._repo.verifications.read()
