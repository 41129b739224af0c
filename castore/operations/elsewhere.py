"""Reading what the store has lost, or dropped, from the second directories of its tiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from castore.copies import directories, opened
from castore.errors import CastoreError, CorruptError, DroppedError, MissingError, RevisionError
from castore.history.revision import resolve
from castore.objects.commit import Commit
from castore.repo import Repository

Answer = TypeVar("Answer")


def reading(repo: Repository, rev: str, work: Callable[[Repository, str], Answer]) -> Answer:
    """`work` with the store and the id of the commit that `rev` names. Where the store has damaged, lost or dropped
    what that needs, once more with a directory that has a copy of the commit, and a note says so.

    A revision means what it means here: what leads to the commit is read here or there, and a branch of copies, which
    is at its newest copy, is never taken for the branch itself. Raises what `work` raised of the store when no
    directory has a copy either; RevisionError.
    """
    try:
        return work(repo, repo.resolve(rev))
    except (CorruptError, DroppedError, RevisionError) as error:
        with ExitStack() as stack:
            copies = list(_copies(repo, stack))
            commit_id = _resolved(repo, rev, copies)
            for one in copies:
                if commit_id is not None and _holds(one, commit_id):
                    repo.progress.note(f"{error}; {rev} is read from its copy in {one.path.parent}")
                    return work(one, commit_id)
            for one in copies if isinstance(error, CorruptError) else ():
                repo.progress.note(f"copies of other commits are in {one.path.parent}, which opens by itself")
        raise


def _copies(repo: Repository, stack: ExitStack) -> Iterator[Repository]:
    """The stores in the directories that are there."""
    for directory in directories(repo):
        try:
            yield stack.enter_context(opened(repo, directory))
        except CastoreError as error:
            repo.progress.note(str(error))


@dataclass(frozen=True, slots=True)
class _Several:
    """Commits of whichever of several stores has them, as a CommitSource."""

    stores: tuple[Repository, ...]

    def commit(self, commit_id: str) -> Commit:
        for store in self.stores:
            try:
                return store.commit(commit_id)
            except CorruptError:
                continue
        raise MissingError(f"commit {commit_id} is neither in the store nor in a directory of its tiers")

    def commits_with_prefix(self, prefix: str) -> list[str]:
        return sorted({one for store in self.stores for one in store.commits_with_prefix(prefix)})


def _resolved(repo: Repository, rev: str, copies: list[Repository]) -> str | None:
    """The id of the commit that a revision names by the store's own refs, if all the commits on the way are found."""
    if not copies:
        return None
    try:
        return resolve(rev, repo.refs, _Several((repo, *copies)), repo.refs.reflog)
    except (CorruptError, RevisionError):
        return None


def _holds(copies: Repository, commit_id: str) -> bool:
    """Whether a copy of the commit was published there, with something of its state."""
    try:
        copies.commit(commit_id)
    except CorruptError:
        return False
    drop = copies.drops.get(commit_id)
    return drop is None or bool(drop.components)
