"""Checking the audit log against the refs of the store."""

from __future__ import annotations

import re

from castore.errors import UsageError
from castore.history.audit_check import AuditReport, check
from castore.repo import Repository

_HASH = re.compile(r"[0-9a-f]{64}")


def check_audit(repo: Repository, known_head: str | None) -> AuditReport:
    """Whether the log is whole. known_head: the hash of an entry that must be in it. Raises UsageError for no hash."""
    if known_head is not None and not _HASH.fullmatch(known_head):
        raise UsageError(f"{known_head[:80]!r} is no hash of an entry, which has 64 hex digits")
    if repo.chunks.access.read_only:
        size, refs = repo.audit.size(), repo.refs.by_full_name()
    else:
        with repo.lock.held():  # so that the log and the refs are of one moment
            size, refs = repo.audit.size(), repo.refs.by_full_name()
    return check(repo.audit, size, refs, known_head)
