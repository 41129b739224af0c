"""Store's methods that free space and check what is there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from castore.history.actor import now
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.maintenance.reports import FsckReport, GcReport


class Upkeep(Door):
    """Garbage and damage."""

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete what no branch, tag, HEAD, pin or unexpired reflog entry leads to, and states that were dropped.

        Safe beside commits and readers.

        Raises CorruptError, before anything is deleted, when history itself can't be walked.
        """
        from castore.maintenance.gc import gc

        days = self._repo.config.reflog_expire_days
        return gc(self._repo, expire_before=now() - timedelta(days=days), dry_run=dry_run)

    def fsck(self, read_data: bool = True, repair: bool = False) -> FsckReport:
        """Check every checksum, link and base; `read_data`: decode every chunk too. Finds, and raises nothing for it.

        repair: rebuild the index and take damaged records out of service, without touching good history.
        """
        from castore.maintenance.fsck import fsck

        return fsck(self._repo, read_data=read_data, repair=repair)
