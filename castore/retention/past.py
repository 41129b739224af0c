"""What is decided on: lines of history, and what is known of the commits on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from castore.history.drops import Drop
from castore.objects.commit import Commit


@dataclass(frozen=True, slots=True)
class Line:
    """What leads to a branch. name: for people, "branch main". commits: newest first, each before its parents."""

    name: str
    commits: tuple[Commit, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """lines: of the branches that are pruned; a commit may be on several. drops: what was dropped before, by commit.
    protected: by commit, why it is kept whatever the rules say: tags, pins. accessed: by commit, when it was last
    loaded."""

    lines: tuple[Line, ...]
    drops: Mapping[str, Drop] = field(default_factory=dict)
    protected: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    accessed: Mapping[str, datetime] = field(default_factory=dict)


class Weigh(Protocol):
    """The records that the state of a commit needs, with the bytes that each takes in the store."""

    def __call__(self, commit: Commit) -> Iterable[tuple[bytes, int]]: ...


class Fits(Protocol):
    """Those of some patterns that fit something in the state of a commit."""

    def __call__(self, commit: Commit, patterns: Sequence[str]) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """A line as rules see it.

    everything: all its commits. commits: those with some of their state left. timed: of these, those whose times can
    be believed. All newest first. latest: the newest time that can be believed, which ages are counted from.
    """

    name: str
    everything: tuple[Commit, ...]
    commits: tuple[Commit, ...]
    timed: tuple[Commit, ...]
    latest: datetime | None

    def age(self, commit: Commit) -> timedelta:
        """How much older a commit is than the newest: a run that rests does not lose its last days."""
        return self.latest - commit.time if self.latest is not None else timedelta()


@dataclass(frozen=True, slots=True)
class View:
    """The past at a moment. ahead: commits of a later time than `now`. behind: commits older, by their times, than one
    before them. fits: looks for components. weigh: None where nobody asked for sizes. accessed: as of `Past`."""

    lines: tuple[Sight, ...]
    now: datetime
    ahead: frozenset[str]
    behind: frozenset[str]
    fits: Fits
    weigh: Weigh | None
    accessed: Mapping[str, datetime] = field(default_factory=dict)


def view(past: Past, now: datetime, fits: Fits, weigh: Weigh | None) -> View:
    """The past as rules see it at `now`, which has a UTC offset."""
    ahead: set[str] = set()
    behind: set[str] = set()
    latest: list[datetime | None] = []
    for line in past.lines:
        newest: datetime | None = None
        for commit in reversed(line.commits):
            if commit.time > now:
                ahead.add(commit.id)
            elif newest is not None and commit.time < newest:
                behind.add(commit.id)
            else:
                newest = commit.time
        latest.append(newest)
    doubtful = ahead | behind
    sights = []
    for line, newest in zip(past.lines, latest, strict=True):
        left = tuple(one for one in line.commits if one.id not in past.drops or past.drops[one.id].components)
        timed = tuple(one for one in left if one.id not in doubtful) if doubtful else left
        sights.append(Sight(line.name, line.commits, left, timed, newest))
    return View(tuple(sights), now, frozenset(ahead), frozenset(behind), fits, weigh, past.accessed)
