"""Store's methods that free space and check what is there."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from castore.history.actor import now
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.verifications import Verification
    from castore.maintenance.reports import FsckReport, GcReport, RepackReport, ScrubReport
    from castore.maintenance.upkeep.maintain import MaintainReport
    from castore.maintenance.verifying.verification import Replay, VerifyReport
    from castore.monitoring.prometheus import Family


class Upkeep(Door):
    """Garbage, the places of deltas, and damage."""

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete what no branch, tag, HEAD, pin or unexpired reflog entry leads to, and states that were dropped.

        Safe beside commits and readers.

        Raises CorruptError, before anything is deleted, when history itself can't be walked.
        """
        from castore.maintenance.gc import gc

        before = now() - timedelta(days=self._repo.config.reflog_expire_days)
        if dry_run:
            return gc(self._repo, before, dry_run)
        with self._repo.events.timed("task", task="gc") as facts:
            report = gc(self._repo, before, dry_run)
            facts["bytes"] = max(0, report.freed_bytes)
        return report

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
        from castore.maintenance.repacking.repack import repack

        pace = Pace.of(seconds, bytes_per_second)
        if dry_run:
            return repack(self._repo, dry_run, pace)
        with self._repo.events.timed("task", task="repack") as facts:
            report = repack(self._repo, dry_run, pace)
            facts["bytes"] = report.encoded_bytes
        return report

    def fsck(self, read_data: bool = True, repair: bool = False) -> FsckReport:
        """Check every checksum, link and base; `read_data`: decode every chunk too. Finds, and raises nothing for it.

        repair: rebuild the index and take damaged records out of service, without touching good history.
        """
        from castore.maintenance.damage import tell_of_damage
        from castore.maintenance.fsck import fsck

        with self._repo.events.timed("task", task="fsck") as facts:
            report = fsck(self._repo, read_data=read_data, repair=repair)
            facts["bytes"] = report.read_bytes
        if not report.ok:
            tell_of_damage(self._repo, report.errors, "fsck")
        return report

    def verify(self, rev: str = "HEAD", replay: Replay | None = None) -> VerifyReport:
        """Restore a commit end to end in a fresh process and check every tensor; note when that was.

        replay: steps to run again from there, whose losses are compared with those that were recorded. Finds, and
        raises nothing for it. Raises RevisionError, DroppedError; UsageError for a replay that nothing can be compared
        with, ReplayError for one whose function can't be run.
        """
        from castore.maintenance.damage import tell_of_failed_verification
        from castore.maintenance.verifying.verify import verify

        with self._repo.events.timed("task", task="verify") as facts:
            report = verify(self._repo, rev, replay, now)
            facts["bytes"] = report.raw_bytes
        if not report.ok:
            tell_of_failed_verification(self._repo, report)
        return report

    def verifications(self) -> dict[str, Verification]:
        """When commits were last verified, by the id of the commit."""
        return self._repo.verifications.read()

    def maintain(
        self,
        time_s: float | None = None,
        rate: float | None = None,
        only: Collection[str] = (),
        force: bool = False,
        dry_run: bool = False,
        replay: Replay | None = None,
    ) -> MaintainReport:
        """Run what is due of the upkeep that castore.toml's `[maintain]` asks for, and raise the alerts that are due.

        time_s: seconds after which nothing more is begun, and what can stop stops; rate: bytes a second that are read
        or copied; default: those of castore.toml, else ten minutes and no bound. only: these tasks, by name. force:
        whether they are due or not. dry_run: say what is due. Safe beside commits and readers; one process at a time, a
        second one returns at once, with `busy`. What fails or is found is in the report, and raised by nothing. replay:
        what verify runs too, from the newest commit of each branch that has so many steps behind it.

        Raises UsageError that names a setting which can't be meant, StorageError.
        """
        from castore.maintenance.upkeep.maintain import maintain

        return maintain(self._repo, time_s, rate, only, force, dry_run, replay)

    def scrub(self, time_s: float | None = None, rate: float | None = None) -> ScrubReport | None:
        """Read on, from where the last scrub stopped, to the end of the round, every byte checked.

        time_s: seconds after which it stops; rate: bytes a second. None: another process is at upkeep. Raises
        StorageError; damage is in the report, and raises the alert.
        """
        from castore.maintenance.upkeep.maintain import scrub_alone

        return scrub_alone(self._repo, time_s, rate)

    def metrics(self) -> list[Family]:
        """What the store holds, and what happened in it, as numbers; raises the alerts that are due.

        Raises CorruptError, UsageError that names what is wrong in castore.toml.
        """
        from castore.maintenance.upkeep.metrics import metrics

        return metrics(self._repo)
