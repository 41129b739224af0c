"""What there is to decide on: the lines of a store's history, and what is said of the commits on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from castore.errors import RevisionError
from castore.history.drops import Drop
from castore.history.moves import TierMove
from castore.history.pins import Pin
from castore.history.refs import Head
from castore.history.walk import ancestors
from castore.maintenance.mirroring.copied import waiting
from castore.objects.commit import Commit
from castore.repo import Repository
from castore.retention.past import Line, Past


@dataclass(frozen=True, slots=True)
class Names:
    """All that can change a decision beside the commits and the time, as it was at one moment."""

    branches: Mapping[str, str]
    tags: Mapping[str, str]
    head: Head
    pins: Mapping[str, Pin]
    drops: Mapping[str, Drop]
    moves: Mapping[str, TierMove]
    accessed: Mapping[str, datetime]

    @classmethod
    def of(cls, repo: Repository) -> Names:
        refs = repo.refs
        marks = (repo.pins.read(), repo.drops.read(), repo.moves.read(), repo.accesses.read())
        return cls(refs.branches(), refs.tags(), refs.head(), *marks)


@dataclass(frozen=True, slots=True)
class Read:
    """Commits that were read, as a CommitSource."""

    by_id: Mapping[str, Commit]

    def commit(self, commit_id: str) -> Commit:
        return self.by_id[commit_id]

    def commits_with_prefix(self, prefix: str) -> list[str]:
        return [one for one in self.by_id if one.startswith(prefix)]


def survey(repo: Repository, names: Names, branch: str | None) -> Past:
    """The past of a store, or of one branch of it: then what other branches lead to is protected.

    Raises RevisionError when there is no such branch, MissingError, CorruptError.
    """
    if branch is not None and branch not in names.branches:
        known = ", ".join(sorted(names.branches)) or "none"
        raise RevisionError(f"there is no branch {branch!r} with commits; there are: {known}")
    tips = _tips(names)
    read = Read(read_history(repo, tips.values()))
    protected: dict[str, list[str]] = {}
    for tag, commit_id in sorted(names.tags.items()):
        protected.setdefault(commit_id, []).append(f"tag {tag}")
    for pin in names.pins.values():
        protected.setdefault(pin.commit, []).append("pinned" + (f": {pin.reason}" if pin.reason else ""))
    for commit_id, text in waiting(repo, read.by_id.values()).items():
        protected.setdefault(commit_id, []).append(text)
    if branch is None:
        lines = _lines(tips, read)
    else:
        lines = [Line(f"branch {branch}", line_of(names.branches[branch], read))]
        own = {commit.id for commit in lines[0].commits}
        for name, tip in tips.items():
            if name.startswith(("branch ", "HEAD")) and name != lines[0].name:
                for commit in line_of(tip, read):
                    if commit.id in own:
                        protected.setdefault(commit.id, []).append(f"{name} leads to it too")
    why = {one: tuple(texts) for one, texts in protected.items()}
    return Past(tuple(lines), names.drops, why, names.accessed)


def _tips(names: Names) -> dict[str, str]:
    """What lines begin from, by what people call it."""
    found = {f"branch {name}": commit_id for name, commit_id in sorted(names.branches.items())}
    if names.head.branch is None and names.head.commit is not None:
        found["HEAD"] = names.head.commit
    found.update((f"tag {name}", commit_id) for name, commit_id in sorted(names.tags.items()))
    found.update((f"pin {commit_id[:12]}", commit_id) for commit_id in names.pins)
    return found


def read_history(repo: Repository, tips: Iterable[str]) -> dict[str, Commit]:
    repo.progress.start("Reading history", None, "commits")
    found: dict[str, Commit] = {}
    for commit in ancestors(tips, repo):
        found[commit.id] = commit
        repo.progress.advance(1)
    repo.progress.finish()
    return found


def _lines(tips: Mapping[str, str], read: Read) -> list[Line]:
    """A line for each branch and a detached HEAD, and for tags and pins that none of these leads to."""
    lines: list[Line] = []
    covered: set[str] = set()
    for name, tip in tips.items():
        if name.startswith(("tag ", "pin ")) and tip in covered:
            continue
        lines.append(Line(name, line_of(tip, read)))
        covered.update(commit.id for commit in lines[-1].commits)
    return lines


def line_of(tip: str, read: Read) -> tuple[Commit, ...]:
    """All that leads to a commit, newest first."""
    found = [read.by_id[tip]]
    while len(found[-1].parents) == 1:  # as most histories go, and without a queue
        found.append(read.by_id[found[-1].parents[0]])
    return tuple(found) if not found[-1].parents else tuple(ancestors([tip], read))
