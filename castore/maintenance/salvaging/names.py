"""Branches, tags, HEAD and marks of a damaged store, as far as they can be read and lead to what was salvaged."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from castore import _fs
from castore.errors import CastoreError
from castore.history import marks
from castore.history.actor import whoami
from castore.history.marks import MarkFile
from castore.history.mirrors import Mirrors
from castore.history.reflog import Change
from castore.history.refs import Refs
from castore.history.signatures import Signatures
from castore.objects.commit import Commit
from castore.repo import Repository

_HEADS, _TAGS = "refs/heads/", "refs/tags/"


@dataclass(slots=True)
class Names:
    """kept: refs by full name, with the commit that they lead to. moved: those that were not readable, or led to what
    is lost, with what said where they were. lost: those that lead to nothing any more. found: branches that were made
    for commits to which nothing led."""

    kept: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    found: dict[str, str] = field(default_factory=dict)


class _Source:
    """What one directory says of refs, with suspicion."""

    def __init__(self, root: Path, id_hex_length: int) -> None:
        self.root = root
        self.refs = Refs(root, id_hex_length, _fs.Lock(root / "lock", 0))  # which is never taken: nothing is written
        self.logged: dict[str, str | None] = {}
        with contextlib.suppress(CastoreError):
            for event in (entry.event for entry in self.refs.audit.read()):
                if event.subject.startswith("refs/") and (event.old or event.new):
                    self.logged[event.subject] = event.new

    def names(self) -> set[str]:
        """Every ref that there is, or was when somebody last wrote of it."""
        found = {f"{_HEADS}{one}" for one in self.refs.branch_names()}
        found |= {f"{_TAGS}{one}" for one in self.refs.tag_names()}
        found |= {one for one in self.refs.reflog.refs() if one != "HEAD" and one not in self.logged}
        return found | {ref for ref, commit_id in self.logged.items() if commit_id is not None}

    def values(self, ref: str) -> Iterator[tuple[str, str]]:
        """What a ref may be at, the best first, each with what says so; "" for the ref itself."""
        name = ref.removeprefix(_HEADS).removeprefix(_TAGS)
        with contextlib.suppress(CastoreError):
            found = self.refs.branch(name) if ref.startswith(_HEADS) else self.refs.tag(name)
            if found is not None:
                yield "", found
        with contextlib.suppress(CastoreError):
            if (logged := self.logged.get(ref)) is not None:
                yield "the audit log", logged
        if ref.startswith(_HEADS):
            with contextlib.suppress(CastoreError):
                for entry in reversed(self.refs.reflog.read(ref)):
                    yield "its reflog", entry.new


def name_commits(target: Repository, roots: list[Path], commits: Mapping[str, Commit], time: datetime) -> Names:
    """Let refs of the new store lead to all commits. Call with its lock held. roots: the damaged store, then others."""
    sources = [_Source(root, 2 * target.hash.size) for root in roots]
    names = Names()
    for ref in sorted({ref for source in sources for ref in source.names()}):
        said = [(source, why, commit_id) for source in sources for why, commit_id in source.values(ref)]
        chosen = next((one for one in said if one[2] in commits), None)
        if chosen is None:
            names.lost.append(ref)
            continue
        source, why, commit_id = chosen
        where = "" if source is sources[0] else str(source.root.parent)
        if not _set(target, ref, commit_id, time):
            names.lost.append(ref)
            continue
        names.kept[ref] = commit_id
        if why or where:
            names.moved[ref] = " of ".join(one for one in (why, where) if one)
    _find(target, commits, names, time)
    _set_head(target, sources, commits, time)
    return names


def _set(target: Repository, ref: str, commit_id: str, time: datetime) -> bool:
    try:
        if ref.startswith(_HEADS):
            name = ref.removeprefix(_HEADS)
            target.refs.update_branch(name, commit_id, None, Change(whoami(), time, "salvage"))
        else:
            target.refs.create_tag(ref.removeprefix(_TAGS), commit_id)
    except CastoreError as error:
        target.progress.note(f"{ref} is left out: {error}")
        return False
    return True


def _find(target: Repository, commits: Mapping[str, Commit], names: Names, time: datetime) -> None:
    """Branches for commits to which nothing leads: at those that no other one of them came from, the newest first."""
    covered: set[str] = set()
    pending = [*names.kept.values(), *target.pins.readable()]
    while pending:
        one = pending.pop()
        if one not in covered and one in commits:
            covered.add(one)
            pending.extend(commits[one].parents)
    lone = [commit for commit_id, commit in commits.items() if commit_id not in covered]
    inner = {parent for commit in lone for parent in commit.parents}
    tips = sorted((one for one in lone if one.id not in inner), key=lambda one: (one.time, one.id), reverse=True)
    number = 0
    for commit in tips:
        number += 1
        while f"{_HEADS}salvaged/{number}" in names.kept:
            number += 1
        if _set(target, f"{_HEADS}salvaged/{number}", commit.id, time):
            names.found[f"salvaged/{number}"] = commit.id


def _set_head(target: Repository, sources: list[_Source], commits: Mapping[str, Commit], time: datetime) -> None:
    change = Change(whoami(), time, "salvage")
    for source in sources:
        with contextlib.suppress(CastoreError):
            head = source.refs.head()
            if head.branch is not None and target.refs.branch(head.branch) is not None:
                target.refs.set_head(Change(whoami(), time, f"salvage: to {head.branch}"), branch=head.branch)
                return
            if head.branch is None and head.commit in commits:
                target.refs.set_head(change, commit=head.commit)
                return
    there = target.refs.branch_names()
    if there and "main" not in there:
        target.refs.set_head(Change(whoami(), time, f"salvage: to {there[0]}"), branch=there[0])


def bring_marks(target: Repository, roots: list[Path], commits: Collection[str]) -> None:
    """Take over what is said of the commits beside refs: pins, tiers ... Call with the target's lock held.

    What was dropped, and what was given up, is noted anew.
    """
    length = 2 * target.hash.size
    for name in set(marks.NAMES) - {"dropped", "lost"}:
        with contextlib.suppress(CastoreError):
            found = [one for one in MarkFile(roots[0], name, length).read().values() if one.commit in commits]
            MarkFile(target.path, name, length).update(added=found)
    with contextlib.suppress(CastoreError):
        for path, uuid in Mirrors(roots[0]).read().items():
            target.mirrors.remember(path, uuid)


def bring_signatures(target: Repository, root: Path, commits: Collection[str]) -> None:
    """Take over the signatures of the commits, and of tags that were kept. Call with the target's lock held."""
    signatures = Signatures(root, 2 * target.hash.size)
    for commit_id in signatures.commits():
        with contextlib.suppress(CastoreError):
            for one in signatures.of_commit(commit_id) if commit_id in commits else ():
                target.signatures.add(commit_id, one)
    for tag in signatures.tags():
        with contextlib.suppress(CastoreError):
            for one in signatures.of_tag(tag) if target.refs.tag(tag) is not None else ():
                target.signatures.set_tag(tag, one)
