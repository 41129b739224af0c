"""The audit log of the page, and one that castore writes, verified from what docs/format.md says alone."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import castore
from castore.history.audit import AuditLog
from castore.history.audit_check import check
from tests.samples import state

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")


def head(data: bytes) -> str:
    """The HASH of the last entry of a log that is whole, as the page says. Fails for any other."""
    before, found = b"", ""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        told, found, rest = line.decode().split(" ", 2)
        assert int(told) == number
        assert found == sha256(before + f"{told} {rest}".encode()).hexdigest()
        before = line
    return found


def test_the_log_of_the_page_is_whole_for_both_readers(tmp_path: Path) -> None:
    data = PAGE.partition("<!-- vector: audit -->\n```\n")[2].partition("```")[0].encode()
    (tmp_path / "audit").write_bytes(data)
    log = AuditLog(tmp_path, True, dict)
    report = check(log, len(data), {"refs/heads/main": "41963244f7b7e9eeb59485b5eda2ea1b"}, None)
    assert (report.ok, report.entries, report.head) == (True, 2, head(data))


def test_what_castore_writes_is_whole_by_the_page(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        store.commit(state(1), message="tab\there, a line\nbreak, é")
        store.tag("v1")
        store.gc()
        assert head((store.path / "audit").read_bytes()) == store.check_audit().head
