"""Store's methods that read history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from castore.history.walk import ancestors
from castore.operations.elsewhere import reading
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.objects.commit import Commit
    from castore.objects.provenance import Provenance
    from castore.operations.reports import Diff, StoreStats, TreeEntry
    from castore.state.provenance.differences import Difference


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

    def provenance(self, rev: str = "HEAD") -> Provenance:
        """What produced a commit: code, command, configuration, seeds, packages, machine, data.

        Raises RevisionError, CorruptError.
        """
        from castore.operations.provenance import provenance

        return reading(self._repo, rev, lambda repo, commit_id: provenance(repo, repo.commit(commit_id)))

    def diff_provenance(self, a: str, b: str) -> list[Difference]:
        """What differs in what produced two commits, each with whether it can change results.

        Raises RevisionError, CorruptError.
        """
        from castore.operations.provenance import compare

        return compare(self._repo, a, b)

    def card(
        self,
        rev: str = "HEAD",
        intended_use: str | None = None,
        caveats: str | None = None,
        metrics: Sequence[str] = (),
    ) -> str:
        """A page in Markdown about a commit, in the manner of a model card.

        intended_use, caveats: default the commit's notes `intended-use` and `caveats`. metrics: those whose curves to
        draw; default: the first three of the commit. Raises RevisionError, UsageError for a metric that none has.
        """
        from castore.operations.card import card

        return card(self._repo, rev, intended_use, caveats, metrics)

    def stats(self) -> StoreStats:
        """What the store holds: raw, stored, deduplicated, delta-coded."""
        from castore.operations.stats import stats

        return stats(self._repo)


def _limited(commits: Iterator[Commit], limit: int | None) -> Iterator[Commit]:
    for number, commit in enumerate(commits):
        if limit is not None and number >= limit:
            return
        yield commit
