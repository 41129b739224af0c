"""Store's methods on tiers and their second directories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castore.history.actor import now
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.moves import TierMove
    from castore.maintenance.reports import MirrorReport, TierOf, TierReport
    from castore.retention.tiers import Tiers


class Tiering(Door):
    """Tiers."""

    def tiers(self) -> Tiers:
        """The tiers of castore.toml, or those that there are by default. Raises UsageError that names what is wrong."""
        return self._repo.tiers()

    def tier_reports(self) -> list[TierReport]:
        """Each tier, with what the store holds of it, and what of that waits to be copied to its directory."""
        from castore.maintenance.mirroring.tier_reports import tier_reports

        return tier_reports(self._repo)

    def tier_of(self, rev: str) -> TierOf:
        """Which tier a commit is of, since when, and in which directories it has a copy. Raises RevisionError."""
        from castore.maintenance.mirroring.tier_reports import tier_of

        return tier_of(self._repo, rev)

    def move_tier(self, rev: str, tier: str) -> TierMove:
        """Let a commit be of another tier from now on. Raises RevisionError, UsageError where there is no such tier."""
        from castore.operations.tier_moves import move_tier

        return move_tier(self._repo, rev, tier, now())

    def mirror(self, deadline: float | None = None) -> MirrorReport:
        """Copy the commits of tiers that name a second directory to it, where these are not there yet.

        deadline: by `time.monotonic`, when no more is begun; the next call goes on. What is wrong with a directory,
        such as that it is gone or full, is in the report. Raises UsageError, CorruptError.
        """
        from castore.maintenance.mirroring.mirror import mirror

        with self._repo.events.timed("task", task="mirror") as facts:
            report = mirror(self._repo, deadline, now)
            facts["bytes"] = sum(one.new_bytes for one in report.directories)
        return report
