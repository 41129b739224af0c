"""Walks over the commit graph: lazily, reading a commit only when it is needed."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

from castore.history.protocols import CommitSource
from castore.objects.commit import Commit


def ancestors(start: Iterable[str], commits: CommitSource, first_parent: bool = False) -> Iterator[Commit]:
    """The commits of `start` (full ids) and all before them, each once, newest first. Raises MissingError.

    first_parent: follow only the first parent of each, as `log --first-parent`.

    Order: by time, but a commit waits until every child that has been met was yielded, and counts as no newer than the
    child it was met through. So clock skew never puts a parent before its child in a linear history, nor where branches
    were met before their common ancestor. Only a child that is itself reached through commits whose clocks were behind
    can come after its parent, as in Git's default order: knowing better would take reading the whole history first.

    The walk is lazy: the n-th commit costs n reads in a linear history, whatever lies before.
    """
    walk = _Walk(commits, first_parent)
    walk.meet(start)
    while (commit := walk.pop()) is not None:
        yield commit
        walk.leave(commit)


def is_ancestor(ancestor: str, descendant: str, commits: CommitSource) -> bool:
    """Whether `ancestor` is `descendant` or comes before it (both full ids). Raises MissingError."""
    return any(commit.id == ancestor for commit in ancestors([descendant], commits))


def merge_base(a: str, b: str, commits: CommitSource) -> str | None:
    """The best common ancestor of two commits (full ids), or None for unrelated histories. Raises MissingError.

    Best: one that is before no other common ancestor. After criss-cross merges there are several: the newest is
    taken. Exact whatever the clocks said, at the price of reading both histories.
    """
    before_a = {commit.id for commit in ancestors([a], commits)}
    common = {commit.id: commit for commit in ancestors([b], commits) if commit.id in before_a}
    # A common ancestor before another one is a parent of some common ancestor: all on the way between them are common.
    best = common.keys() - {parent for commit in common.values() for parent in commit.parents}
    return max(best, key=lambda commit_id: (common[commit_id].time, commit_id), default=None)


class _Walk:
    """The commits that were met and not yet yielded, and how many of each one's children are among them."""

    def __init__(self, commits: CommitSource, first_parent: bool) -> None:
        self._commits = commits
        self._first_parent = first_parent
        self._met: dict[str, Commit | None] = {}  # None once yielded: a long walk keeps ids, not commits
        self._waiting_children: dict[str, int] = {}
        self._held: dict[str, float] = {}  # reached its turn while a child was waiting; by the time that it counts as
        self._heap: list[tuple[float, int, str]] = []
        self._latest = math.inf  # what the commit that was yielded last counts as

    def meet(self, ids: Iterable[str]) -> None:
        """Read commits that were not met before, and queue them as no newer than the one yielded last."""
        for commit_id in ids:
            if commit_id in self._met:
                continue
            commit = self._commits.commit(commit_id)
            self._met[commit_id] = commit
            for parent in self._parents(commit):
                self._waiting_children[parent] = self._waiting_children.get(parent, 0) + 1
            self._push(commit_id, commit.time.timestamp())

    def pop(self) -> Commit | None:
        """The newest commit that waits for no child, or None at the end."""
        while self._heap:
            negated, _, commit_id = heapq.heappop(self._heap)
            if self._waiting_children.get(commit_id):
                self._held[commit_id] = -negated
                continue
            commit = self._met[commit_id]
            if commit is not None:
                self._met[commit_id] = None
                self._latest = -negated
                return commit
        return None

    def leave(self, commit: Commit) -> None:
        """Go on to the parents of the commit that `pop` returned last."""
        for parent in self._parents(commit):
            self._waiting_children[parent] -= 1
            if not self._waiting_children[parent]:
                del self._waiting_children[parent]
                if parent in self._held:
                    self._push(parent, self._held.pop(parent))
        self.meet(self._parents(commit))

    def _parents(self, commit: Commit) -> tuple[str, ...]:
        return commit.parents[:1] if self._first_parent else tuple(dict.fromkeys(commit.parents))

    def _push(self, commit_id: str, time: float) -> None:
        # Of the same time, the one met first comes first: parents in their order, and no comparison of ids
        heapq.heappush(self._heap, (-min(time, self._latest), len(self._met), commit_id))
