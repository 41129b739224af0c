"""What maintenance answers with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A commit that no branch, tag, HEAD or reflog leads to.

    reason: one line, such as "no ref leads to it; the reflog entries that did expired".
    """

    commit: str
    reason: str
    step: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class GcReport:
    """What gc removed, or would remove.

    removed_chunks: records of any kind. freed_bytes: net, on disk. A dead record in a pack that stays, since most of it
    is alive, is out of use, and its bytes are freed when the pack is rewritten. kept_by_reflogs: commits that only
    reflog entries lead to, which go when those expire.
    """

    dry_run: bool
    live_chunks: int
    removed_chunks: int
    freed_bytes: int
    removed_packs: int
    rewritten_packs: int
    unreachable: tuple[Unreachable, ...] = ()
    expired_reflog_entries: int = 0
    abandoned_files: int = 0
    kept_by_reflogs: int = 0


@dataclass(frozen=True, slots=True)
class FsckError:
    """One thing that is wrong.

    problem: one line. pack, record: file name and id in hex, "" where none is meant. commits: full ids of the commits
    that it affects; paths: the tensors in them (at most 20 are named).
    """

    problem: str
    pack: str = ""
    record: str = ""
    commits: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FsckReport:
    """ok: nothing is wrong (after the repair, if there was one). repaired: what `--repair` did, a line each."""

    ok: bool
    packs: int
    records: int
    commits: int
    read_bytes: int
    errors: tuple[FsckError, ...] = ()
    repaired: tuple[str, ...] = field(default=())
