"""Commits in memory, for tests of walks, revisions and drawings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone

from hypothesis import strategies as st

from castore.errors import MissingError
from castore.objects.commit import Commit, CommitStats

START = datetime(2025, 1, 1, tzinfo=timezone.utc)


def make_commit(commit_id: str, parents: Iterable[str] = (), minute: int = 0, step: int | None = None) -> Commit:
    return Commit(
        id=commit_id,
        tree="0" * len(commit_id),
        parents=tuple(parents),
        message=f"message of {commit_id}",
        step=step,
        metrics={},
        author="ada",
        time=START + timedelta(minutes=minute),
        environment={},
        meta={},
        tier=None,
        stats=CommitStats(),
    )


class Commits:
    """A CommitSource that remembers what was read."""

    def __init__(self, commits: Iterable[Commit]) -> None:
        self.by_id = {commit.id: commit for commit in commits}
        self.read: list[str] = []

    def commit(self, commit_id: str) -> Commit:
        self.read.append(commit_id)
        if commit_id not in self.by_id:
            raise MissingError(f"no commit {commit_id}")
        return self.by_id[commit_id]

    def commits_with_prefix(self, prefix: str) -> list[str]:
        return [commit_id for commit_id in self.by_id if commit_id.startswith(prefix)][:16]


def history(parents: Mapping[str, str]) -> Commits:
    """Commits from `{id: "parent parent ..."}`, parents first; each a minute newer than the one before."""
    return Commits(make_commit(name, before.split(), minute=n) for n, (name, before) in enumerate(parents.items()))


@st.composite
def commit_graphs(draw: st.DrawFn, max_commits: int = 14, max_parents: int = 2, skewed: bool = False) -> list[Commit]:
    """Any history, oldest first: parents stand before their children."""
    count = draw(st.integers(1, max_commits))
    commits = []
    for number in range(count):
        before = [f"c{n}" for n in range(max(0, number - 6), number)]
        parents = draw(st.lists(st.sampled_from(before), max_size=max_parents, unique=True)) if before else []
        minute = draw(st.integers(0, 50)) if skewed else number
        commits.append(make_commit(f"c{number}", parents, minute))
    return commits
