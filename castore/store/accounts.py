"""Store's methods that say who did what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.audit_check import AuditReport
    from castore.history.audit_line import AuditEntry
    from castore.operations.signatures import Checked, SignatureReport


class Accounts(Door):
    """The audit log, and signatures."""

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

    def sign(self, rev: str = "HEAD", key: str | Path | None = None) -> Checked:
        """Sign a commit with an SSH key, that of castore.toml by default.

        Raises UsageError (no key; a store whose hash does not withstand forgery), SignatureError, RevisionError.
        """
        from castore.operations.signatures import sign

        return sign(self._repo, rev, True if key is None else key)

    def signed(self) -> tuple[list[str], list[str]]:
        """The ids of the commits, and the names of the tags, that have signatures, whatever those are worth."""
        return self._repo.signatures.commits(), self._repo.signatures.tags()

    def verify_signatures(self, rev: str | None = "HEAD", allowed_signers: str | Path | None = None) -> SignatureReport:
        """What the signatures of a commit are worth, and of the tag where `rev` is one; None: of all commits and tags.

        allowed_signers: a file as ssh-keygen(1) has it, by default the one that castore.toml names. Finds, and raises
        nothing for what it finds. Raises UsageError (no such file), SignatureError (no ssh-keygen), RevisionError.
        """
        from castore.operations.signatures import verify

        return verify(self._repo, rev, allowed_signers)
