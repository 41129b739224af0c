"""The text files of a store: HEAD and refs, reflogs, the audit log, marks, events."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random

from castore import _fs
from castore.chunks.hashing import checksum
from castore.errors import CorruptError
from castore.history import audit_line, marks, reflog_line
from castore.history.audit import AuditLog
from castore.history.audit_check import check
from castore.history.marks import MarkFile
from castore.history.mirrors import Mirrors
from castore.history.names import check_name, is_valid_name
from castore.history.reflog import Change, Reflog, values
from castore.history.refs import Refs
from castore.history.signatures import Signatures
from castore.maintenance.upkeep.state import State
from castore.monitoring import events
from tests.fuzz.mutations import TEXTS, mutated_text
from tests.fuzz.target import MIB, Target

_A, _B = "0a" * 16, "0b" * 16
_WHEN = datetime(2025, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=-3)))
_LINE_CHECK = re.compile(rb"\A[0-9a-f]{16} ")
_WORDS = (*TEXTS, _A, _B, "0" * 32, "ref:", "refs/heads/main", "\\n", "\\u001b", "\\x", "-1.000000", "+0000", "9" * 400)


@dataclass(frozen=True)
class TextTarget:
    """Files of a directory that is kept for as long as the process lasts. mend: makes checksums right again."""

    name: str
    made: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], bool]
    root: Path
    growth_bytes: int = 96 * MIB
    mapped_bytes: int = 0
    mend: Callable[[bytes], bytes] | None = None

    def seeds(self) -> Sequence[bytes]:
        return self.made()

    def mutated(self, data: bytes, rng: Random) -> bytes:
        text = mutated_text(data, rng, _WORDS)
        return self.mend(text) if self.mend is not None and rng.random() < 0.7 else text

    def run(self, data: bytes) -> bool:
        return self.read(self.root, data)


def _refs() -> list[bytes]:
    return [b"ref: refs/heads/main\n", f"{_A}\n".encode(), b"ref: refs/heads/a/b-c_d\n", b"topic/one", b"v1.0"]


def _read_refs(root: Path, data: bytes) -> bool:
    """HEAD and a branch with this content, and a branch of this name."""
    refs = Refs(root, 32, _fs.Lock(root / "lock", 1.0))
    for name in ("HEAD", "refs/heads/main"):
        (root / name).write_bytes(data)
    taken = False
    with suppress(CorruptError):
        head = refs.head()
        assert head.branch is None or is_valid_name(head.branch)
        taken = True
    with suppress(CorruptError):
        found = refs.branch("main")
        assert found is not None and len(found) == 32 and bytes.fromhex(found)
        taken = True
    refs.by_full_name()
    with suppress(CorruptError):
        Signatures(root, 32).of_tag("main")
    name = data.decode("utf-8", "surrogateescape").removesuffix("\n")
    if is_valid_name(name):
        path = Path(os.path.normpath(root / "refs/heads" / name))
        assert path.is_relative_to(root / "refs/heads") and path != root / "refs/heads", "leads elsewhere"
        assert not any(one < " " or one == "\x7f" for one in name) and not name.startswith("-")
        assert not any(part.endswith(".lock") or part.startswith(".") for part in name.split("/"))
        check_name(name)
        taken = True
    return taken


def _reflog() -> list[bytes]:
    entries = [
        reflog_line.ReflogEntry(None, _A, "ada@host", _WHEN, "commit: one"),
        reflog_line.ReflogEntry(_A, _B, "", _WHEN, "commit: \x1b[1m\n\t\\"),
    ]
    old = [reflog_line.encode(one) for one in entries]
    lines = [reflog_line.encode(one, with_check=True) for one in entries]
    return [*lines, *old, old[0] + b"".join(lines), lines[0] + lines[1][:40] + b"\x18\n" + lines[0]]


def _with_line_checks(data: bytes) -> bytes:
    """Lines of a reflog, each with the right checksum before what stands behind the one it had, or all of it."""
    bare = (_LINE_CHECK.sub(b"", line) for line in data.splitlines(keepends=True))
    return b"".join(b"%016x %s" % (checksum(line.removesuffix(b"\n")), line) for line in bare)


def _read_reflog(root: Path, data: bytes) -> bool:
    (root / "logs/HEAD").write_bytes(data)
    log = Reflog(root, 32, checked=True)
    entries = log.read("HEAD")
    for entry in entries:
        again = reflog_line.decode(reflog_line.encode(entry, with_check=True)[:-1], 32)
        assert again == replace(entry, is_doubtful=False) or len(entry.author.encode("utf-8", "surrogatepass")) > 900, (
            "another entry"
        )
        Change(entry.author, entry.time, entry.message).action  # noqa: B018
    values(entries, entries[-1].new if entries else None)
    log.damaged_lines("HEAD")
    return bool(entries)


def _audit() -> list[bytes]:
    data, before = b"", audit_line.digest()
    for number, event in enumerate(
        (
            audit_line.Event("init", detail="uuid xxh3-128"),
            audit_line.Event("commit", "refs/heads/main", None, _A, "one"),
            audit_line.Event("delete", "refs/heads/main", _A),
        ),
        1,
    ):
        blank = audit_line.encode(audit_line.AuditEntry(number, "0" * 64, _WHEN, "ada@host", event))
        line = audit_line.encode(
            audit_line.AuditEntry(number, audit_line.hash_of(blank, before), _WHEN, "ada@host", event)
        )
        before, data = audit_line.digest(line), data + line
    return [data, data[:-20] + b"\x18\n"]


def _read_audit(root: Path, data: bytes) -> bool:
    (root / "audit").write_bytes(data)
    log = AuditLog(root, True, dict)
    lines = list(log.lines())
    for line in lines:
        assert line.entry is None or data[line.offset :].startswith(audit_line.encode(line.entry)), (
            "not what stands there"
        )
    check(log, log.size(), {"refs/heads/main": _A}, None)
    return any(line.entry is not None for line in lines)


def _marks() -> list[bytes]:
    lines = [
        marks.encode(marks.Mark(one, _WHEN, texts)) for one, texts in ((_A, ("by keep_last", "model.*")), (_B, ("",)))
    ]
    return [*map(marks.with_check, lines), lines[0], marks.with_check(b"".join(lines))]


def _with_file_check(data: bytes) -> bytes:
    """Marks with the right first line."""
    return marks.with_check(data.partition(b"\n")[2] if data.startswith(b"check ") else data)


def _read_marks(root: Path, data: bytes) -> bool:
    (root / "dropped").write_bytes(data)
    file = MarkFile(root, "dropped", 32)
    found = file.read()
    for commit, mark in found.items():
        assert file.get(commit) == mark, "two answers for one commit"
        if len(marks.encode(mark)) < 8000:
            assert marks.decode(marks.encode(mark)[:-1], 32) == mark
    if not file.problem():
        assert file.read_whole() == found
    return bool(found)


def _events() -> list[bytes]:
    lines = [
        events.encode(events.Event(1.5, "commit", {"seconds": 0.5, "bytes": 7, "step": 3})),
        events.encode(events.Event(2.5, "failure", {"of": "gc", "error": "StorageError", "text": "\x1b"})),
        events.encode(events.Event(3.0, "totals", {"times": [["commit.seconds", "", 1.0, *[1] * 15]], "amounts": [],
                                                   "counts": [["commit", "", 4]], "lost": 1})),
        b'{"finished": {"gc": 5.0}, "scrub": {"began": null, "pack": "0a", "offset": 4, "damaged": 0, '
        b'"damaged_before": 0, "finished": 3.5}}\n',
        b"5e2f1c9a-7a0b-4f53-9d0c-1f7c1f2f6c11 /second/disk\n",
    ]  # fmt: skip
    return [*lines, b"".join(lines)]


def _read_events(root: Path, data: bytes) -> bool:
    """As `events`, `maintenance` and `mirrors`."""
    for name in ("events", "maintenance", "mirrors"):
        (root / name).write_bytes(data)
    log = events.Events(root, True, print)
    found = list(log.read())
    log.tally().facts()
    State.read(root)
    with suppress(CorruptError):
        Mirrors(root).read()
    return bool(found)


_KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[Path, bytes], bool]]] = {
    "refs": (_refs, _read_refs),
    "reflog": (_reflog, _read_reflog),
    "audit": (_audit, _read_audit),
    "marks": (_marks, _read_marks),
    "events": (_events, _read_events),
}
_MENDS = {"reflog": _with_line_checks, "marks": _with_file_check}


def target(name: str) -> Target:
    root = Path(tempfile.mkdtemp(prefix="castore-fuzz-"))
    for directory in ("refs/heads", "refs/tags", "logs", "signatures/tags"):
        (root / directory).mkdir(parents=True)
    made, read = _KINDS[name]
    return TextTarget(name, made, read, root, mend=_MENDS.get(name))
