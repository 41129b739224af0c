"""What produced a commit, and what differs between two."""

from __future__ import annotations

from castore.objects.commit import Commit
from castore.objects.provenance import Provenance
from castore.repo import Repository
from castore.state.provenance.differences import Difference, differences, of_summary


def provenance(repo: Repository, commit: Commit) -> Provenance:
    """What produced a commit; of one by an older version the few words that it holds. Raises CorruptError."""
    found = repo.provenance(commit)
    return of_summary(commit.environment, commit.meta) if found is None else found


def compare(repo: Repository, old: str, new: str) -> list[Difference]:
    """What differs in what produced the commits of two revisions. Raises RevisionError, CorruptError."""
    a, b = (provenance(repo, repo.commit(repo.resolve(rev))) for rev in (old, new))
    return differences(a, b)
