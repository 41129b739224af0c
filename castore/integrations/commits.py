"""Where all adapters commit: one branch of one store. What is asynchronous one day is so from here on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore.store import Store
from castore.store import open as open_store

if TYPE_CHECKING:
    from castore.objects.commit import Commit


class BranchCommits:
    """Commits to a branch, each durable when its call returns.

    store: an open one, or the path of one, which is opened here and made if it is missing.
    """

    def __init__(self, store: Store | str | Path, branch: str) -> None:
        self.store = store if isinstance(store, Store) else open_store(store, create=True)
        self.branch = branch

    def commit(
        self, state: Any, *, step: int | None, metrics: Mapping[str, float], meta: Mapping[str, str], message: str
    ) -> Commit:
        """Commit a state. Raises as `Store.commit` does."""
        return self.store.commit(state, self.branch, message, step, metrics, meta)

    def commit_files(
        self, directory: Path, *, step: int | None, metrics: Mapping[str, float], meta: Mapping[str, str], message: str
    ) -> Commit:
        """Commit what is in a directory, byte for byte. Raises as `Store.commit_files` does."""
        return self.store.commit_files([directory], self.branch, message, step, metrics, meta)

    def log(self) -> Iterator[Commit]:
        """The commits of the branch, newest first; none while it does not exist."""
        return self.store.log(self.branch) if self.branch in self.store.branches() else iter(())
