"""What `--json` prints of the audit log and of signatures, as docs/cli.md promises it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from castore.history.audit_check import AuditReport
    from castore.history.audit_line import AuditEntry
    from castore.operations.signatures import Checked


def signature_record(one: Checked) -> dict[str, Any]:
    """One signature, or the want of any."""
    return {
        "kind": one.kind,
        "name": one.name,
        "commit": one.commit,
        "status": one.status,
        "signer": one.signer or None,
        "key": one.key or None,
        "detail": one.detail or None,
    }


def audit_record(entry: AuditEntry) -> dict[str, Any]:
    """One entry of the audit log."""
    return {
        "number": entry.number,
        "time": entry.time.isoformat(),
        "who": entry.who,
        "action": entry.event.action,
        "subject": entry.event.subject,
        "old": entry.event.old,
        "new": entry.event.new,
        "detail": entry.event.detail,
        "hash": entry.hash,
    }


def audit_report_record(report: AuditReport) -> dict[str, Any]:
    """Whether the audit log is whole."""
    return {
        "ok": report.ok,
        "entries": report.entries,
        "head": report.head or None,
        "errors": list(report.errors),
        "notes": list(report.notes),
    }
