"""Store's methods that say who did what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.audit_check import AuditReport
    from castore.history.audit_line import AuditEntry


class Accounts(Door):
    """The audit log."""

    def audit(self, limit: int | None = None) -> list[AuditEntry]:
        """The entries of the audit log, newest first, or the newest `limit` of them."""
        return self._repo.audit.read(limit)[::-1]

    def check_audit(self, known_head: str | None = None) -> AuditReport:
        """Whether the audit log is whole: its chain, its numbers, and that each branch and tag is what it says.

        known_head: the hash of an entry, as an earlier report had it, that must be there still. Finds, and raises
        nothing for it.
        """
        from castore.operations.audit import check_audit

        return check_audit(self._repo, known_head)
