"""What a store must say and keep, in dicts and sets: the plain model that the real one is held against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

MIRRORED = "archive"  # the tier with a second directory


@dataclass(frozen=True)
class Made:
    """A commit. state: kind and seed."""

    id: str
    parent: str | None
    state: tuple[int, int]
    step: int
    loss: float | None
    tier: str | None
    time: datetime


@dataclass(frozen=True)
class Entry:
    """A line of a reflog."""

    old: str | None
    new: str
    time: datetime


@dataclass
class History:
    """commits: that the store has. dropped, partial: of which retention took the state, or the optimizer. copied: what
    the second directory has; True: the whole state. gone: that gc took."""

    head: str = "main"
    commits: dict[str, Made] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pins: set[str] = field(default_factory=set)
    logs: dict[str, list[Entry]] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    partial: set[str] = field(default_factory=set)
    copied: dict[str, bool] = field(default_factory=dict)
    gone: dict[str, Made] = field(default_factory=dict)

    def move(self, branch: str, new: str, time: datetime) -> None:
        """A branch is made or moved."""
        entry = Entry(self.branches.get(branch), new, time)
        for log in [branch, "HEAD"] if branch == self.head else [branch]:
            self.logs.setdefault(log, []).append(entry)
        self.branches[branch] = new

    def switch(self, branch: str, time: datetime) -> None:
        old = self.branches.get(self.head)
        self.head = branch
        if branch in self.branches:
            self.logs.setdefault("HEAD", []).append(Entry(old, self.branches[branch], time))

    def line(self, tip: str) -> list[Made]:
        """All that leads to a commit, newest first."""
        found = [self.commits[tip]]
        while (parent := found[-1].parent) is not None:
            found.append(self.commits[parent])
        return found

    def tips(self) -> set[str]:
        return {*self.branches.values(), *self.tags.values(), *self.pins}

    def is_reachable(self, commit: str) -> bool:
        """Whether a branch, tag or pin leads to a commit."""
        return any(commit == made.id for tip in self.tips() for made in self.line(tip))

    def is_kept(self, branch: str) -> bool:
        """Whether other branches and tags lead to what a branch is at."""
        others = {*self.tags.values(), *(tip for name, tip in self.branches.items() if name != branch)}
        return any(self.branches[branch] in {one.id for one in self.line(tip)} for tip in others)

    def values(self, log: str) -> list[str]:
        """What `log@{0}`, `log@{1}`, ... are."""
        found = [self.branches[self.head if log == "HEAD" else log]]
        return found + [entry.old for entry in reversed(self.logs[log]) if entry.old is not None]

    def expire(self, log: str, before: datetime) -> None:
        """Entries older than `before` go; one is no older than those before it, whatever the clock said."""
        latest, kept = None, []
        for entry in self.logs.get(log, []):
            latest = entry.time if latest is None else max(latest, entry.time)
            if latest >= before:
                kept.append(entry)
        self.logs[log] = kept

    def collect(self, before: datetime) -> None:
        """What neither a ref nor an entry that has not expired leads to goes."""
        for log in self.logs:
            self.expire(log, before)
        named = {one for log in self.logs.values() for entry in log for one in (entry.old, entry.new)}
        live = {one.id for tip in self.tips() | (named & self.commits.keys()) for one in self.line(tip)}
        self.gone.update({one: self.commits.pop(one) for one in self.commits.keys() - live})
        self.dropped &= live
        self.partial &= live

    def mirror(self) -> None:
        for made in {one.id: one for tip in self.tips() for one in self.line(tip)}.values():
            if made.tier == MIRRORED and made.id not in self.copied and made.id not in self.dropped:
                self.copied[made.id] = made.id not in self.partial

    def prune(self, rules: Mapping[str, Any], now: datetime) -> None:
        """See docs/lifecycle.md."""
        lines = self._lines()
        listed = {made.id: made for line in lines for made in line}
        guarded, clock = self._guarded(lines, listed, now), _Clock.of(lines, now)
        if "keep_within" in rules:
            guarded |= clock.behind
        kept = set(listed) if not rules.keys() & {"keep_last", "keep_every", "keep_best", "keep_within"} else set()
        for line in lines:
            kept |= self._chosen(line, rules, clock)
        for made in listed.values():
            if made.id in self.dropped:
                continue
            if made.id not in kept | guarded:
                self.dropped.add(made.id)
                self.partial.discard(made.id)
            elif made.id not in guarded and "drop_components" in rules and made.state[0] == 0:  # with tensors in it
                self.partial.add(made.id)

    def _lines(self) -> list[list[Made]]:
        lines = [self.line(self.branches[name]) for name in sorted(self.branches)]
        covered = {made.id for line in lines for made in line}
        for tip in [*(self.tags[name] for name in sorted(self.tags)), *sorted(self.pins)]:
            if tip not in covered:
                lines.append(self.line(tip))
                covered.update(made.id for made in lines[-1])
        return lines

    def _guarded(self, lines: list[list[Made]], listed: Mapping[str, Made], now: datetime) -> set[str]:
        children = Counter(made.parent for made in listed.values())
        found = {*self.tags.values(), *self.pins}
        found |= {one for one, count in children.items() if count > 1 and one is not None}
        found |= {made.id for made in listed.values() if made.tier == MIRRORED and made.id not in self.copied}
        found |= {made.id for made in listed.values() if made.time > now}
        for line in lines:
            whole = [made.id for made in line if made.id not in self.dropped | self.partial]
            found.update([line[0].id, *whole[:1]])
        return found

    def _chosen(self, line: list[Made], rules: Mapping[str, Any], clock: _Clock) -> set[str]:
        left = [made for made in line if made.id not in self.dropped]
        found = left[: rules.get("keep_last", 0)]
        if every := rules.get("keep_every"):
            found += [made for made in left if made.step % every == 0]
        if "keep_best" in rules:
            count = int(rules["keep_best"].rpartition(":")[2])
            having = [(made.loss, made) for made in left if made.loss is not None]
            found += [made for _, made in sorted(having, key=lambda one: one[0])[:count]]
            found += left if all(made.loss is None for made in line) else []
        if "keep_within" in rules:
            believed = [made for made in line if made.id not in clock.ahead | clock.behind]
            latest = max((made.time for made in believed), default=clock.now)
            found += [made for made in believed if made in left and latest - made.time <= timedelta(days=2)]
        return {made.id for made in found}


@dataclass(frozen=True)
class _Clock:
    """Commits whose times can't be believed: later than now, or before that of one before them."""

    now: datetime
    ahead: set[str]
    behind: set[str]

    @classmethod
    def of(cls, lines: Iterable[list[Made]], now: datetime) -> _Clock:
        ahead: set[str] = set()
        behind: set[str] = set()
        for line in lines:
            newest = None
            for made in reversed(line):
                if made.time > now:
                    ahead.add(made.id)
                elif newest is not None and made.time < newest:
                    behind.add(made.id)
                else:
                    newest = made.time
        return cls(now, ahead, behind)
