"""What maintenance answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from castore.errors import CastoreError
from castore.history.drops import Drop
from castore.history.moves import TierMove
from castore.retention.decide import Verdict
from castore.retention.tiers import Tier


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
class RepackReport:
    """What repack did, or would do.

    finished: whether all was done before its time was over. encoded_chunks, encoded_bytes: written anew, and their raw
    bytes. moved_records: to another pack, as they are. small_packs: that would be merged, of a
    dry run. before_packs, before_bytes,
    after_packs, after_bytes: all packs, those of commits made meanwhile included. damaged: chunks that were left as
    they are since they can't be decoded, by id in hex, with why.
    """

    dry_run: bool
    finished: bool
    encoded_chunks: int
    encoded_bytes: int
    moved_records: int
    small_packs: int | None
    before_packs: int
    after_packs: int
    before_bytes: int
    after_bytes: int
    damaged: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What retention dropped, or would drop.

    commits: the verdict on each. warnings: a line each. alone_bytes: by commit, what only its state needs;
    freed_bytes: what gc can free of what is dropped; both only of a dry run, since to know it every tree is read.
    """

    dry_run: bool
    commits: tuple[Verdict, ...]
    warnings: tuple[str, ...] = ()
    alone_bytes: Mapping[str, int] = field(default_factory=dict)
    freed_bytes: int | None = None

    @property
    def changed(self) -> tuple[Verdict, ...]:
        """The verdicts by which something is dropped now."""
        return tuple(one for one in self.commits if one.rule)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why the state of one commit is kept or dropped.

    drop: what was dropped of it already, None for nothing. alone_bytes: what only its state needs in the store.
    """

    verdict: Verdict
    drop: Drop | None
    alone_bytes: int
    warnings: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class SalvagedCommit:
    """A commit that was found in a damaged store.

    state: "present", "partial" or "dropped". lost: the paths of its tensors that can't be read. tree_lost: nor can what
    says which there were.
    """

    commit: str
    step: int | None
    message: str
    state: str
    lost: tuple[str, ...] = ()
    tree_lost: bool = False


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What `salvage` found, and what it did not.

    path: of the new store. packs, records: that were read, and that are good. sound: fsck finds nothing in the new
    store. commits: oldest first. lost_commits: that others came from. lost_provenance: commits of which what says how
    they came about is lost. refs: branches and tags by full name, with their commits; moved_refs: those of them that
    could not be read or led to what is lost, with what said where they were; lost_refs: those that lead to nothing.
    branches: made for commits to which nothing led.
    """

    path: Path
    packs: int
    records: int
    sound: bool
    commits: tuple[SalvagedCommit, ...]
    lost_commits: tuple[str, ...]
    lost_provenance: tuple[str, ...]
    refs: Mapping[str, str]
    moved_refs: Mapping[str, str]
    lost_refs: tuple[str, ...]
    branches: Mapping[str, str]

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        lost = any(one.lost or one.tree_lost for one in self.commits)
        return self.sound and not (lost or self.lost_commits or self.lost_provenance or self.lost_refs)


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What became of the copies in one directory.

    tiers: those that name it. copied: how many commits. new_bytes: that these took there. left: commits that still
    wait, since time was up or something failed. dropped: commits whose state retention took before there was a copy.
    failed: a line for each commit that can't be copied. error: what is
    wrong with the directory, such as that it is gone or full; None for nothing.
    """

    directory: Path
    tiers: tuple[str, ...]
    copied: int
    new_bytes: int
    left: int
    dropped: int
    failed: tuple[str, ...]
    error: CastoreError | None


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """What `mirror` did, for each directory that a tier names."""

    directories: tuple[Mirrored, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong: with a directory, or with a commit that should have been copied."""
        return not any(one.error is not None or one.failed for one in self.directories)


@dataclass(frozen=True, slots=True)
class TierReport:
    """A tier, and what there is of it.

    states: commits of the tier whose state the store has, whole or in part. directory: where copies lie; None: nowhere.
    waiting: how many of these states have no copy there yet, as far as is known; None without a directory.
    """

    tier: Tier
    states: int
    directory: Path | None
    waiting: int | None


@dataclass(frozen=True, slots=True)
class TierOf:
    """commit: its full id. tier: the one that it is of now. made: the one that it was committed with. moved: when it
    came to another; None where it never did. copies: the directories that have one of it."""

    commit: str
    tier: str | None
    made: str | None
    moved: TierMove | None
    copies: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What a scrub read and found.

    done: it got as far as it had to; else the time was over before. read_bytes: in this run. share: of the round that
    is behind, 0 to 1. finished: the round is over. errors: as fsck's.
    """

    done: bool
    read_bytes: int
    share: float
    finished: bool
    errors: tuple[FsckError, ...] = ()
    warnings: tuple[str, ...] = ()
