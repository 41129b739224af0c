"""Store's methods that read history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from castore.history.walk import ancestors
from castore.operations.elsewhere import reading
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.objects.commit import Commit
    from castore.operations.reports import Diff, StoreStats, TreeEntry


class History(Door):
    """Commits, and what is in them."""

    def resolve(self, rev: str) -> str:
        """The full id of the commit that a revision names. Raises RevisionError, AmbiguousRevisionError."""
        return self._repo.resolve(rev)

    def show(self, rev: str = "HEAD") -> Commit:
        """The commit that a revision names. Raises RevisionError, MissingError."""
        return reading(self._repo, rev, lambda repo, commit_id: repo.commit(commit_id))

    def log(self, rev: str | Sequence[str] = "HEAD", limit: int | None = None) -> Iterator[Commit]:
        """The commits of one or several revisions and all before them, each once, newest first and lazily.

        Raises RevisionError.
        """
        starts = [self.resolve(one) for one in ([rev] if isinstance(rev, str) else rev)]
        return _limited(ancestors(starts, self._repo), limit)

    def entries(self, rev: str = "HEAD", only: str | Sequence[str] | None = None) -> Iterator[TreeEntry]:
        """What is in a commit, path by path, without its data. Raises RevisionError, StateError."""
        from castore.operations.entries import entries

        return entries(self._repo, rev, only)

    def diff(self, a: str, b: str) -> Diff:
        """What changed from commit `a` to commit `b`, per tensor. Raises RevisionError, CorruptError."""
        from castore.operations.diff import diff

        return diff(self._repo, a, b)

    def stats(self) -> StoreStats:
        """What the store holds: raw, stored, deduplicated, delta-coded."""
        from castore.operations.stats import stats

        return stats(self._repo)


def _limited(commits: Iterator[Commit], limit: int | None) -> Iterator[Commit]:
    for number, commit in enumerate(commits):
        if limit is not None and number >= limit:
            return
        yield commit
