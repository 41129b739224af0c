"""Store: the one door to everything below."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from castore import repo as repositories
from castore.config import Config
from castore.errors import StoreExistsError
from castore.progress import Progress, Silent
from castore.store.accounts import Accounts
from castore.store.committing import Committing
from castore.store.history import History
from castore.store.keeping import Keeping
from castore.store.loading import Loading
from castore.store.refs import RefNames
from castore.store.tiering import Tiering
from castore.store.upkeep import Upkeep

if TYPE_CHECKING:
    from castore.maintenance.reports import SalvageReport


def open(path: str | Path, create: bool = False, progress: Progress | None = None) -> Store:
    """Open the store at `path`: a `.castore` directory, or the directory that holds one. `create`: make it if missing.

    Raises StoreNotFoundError, UnsupportedStoreError (a newer format, a network file system), CorruptError.
    """
    path = Path(path)
    if create:
        target = path if path.name == repositories.NAME else path / repositories.NAME
        if not any(repositories.is_store(place) for place in (path, target)):
            with contextlib.suppress(StoreExistsError):  # another process was faster: what was wanted is there
                repositories.create(target)
    return Store(repositories.locate(path), progress)


def init(path: str | Path, hash: str = "xxh3-128", shared: str | None = None) -> Store:
    """Make a new store: `path` itself if it is named `.castore`, else `path/.castore`. `hash`: "xxh3-128" or "blake3".

    shared: the group, by name or number, whose members may read and write it; default: its owner alone.
    Raises StoreExistsError, UnsupportedStoreError, StorageError, UsageError.
    """
    path = Path(path)
    target = path if path.name == repositories.NAME else path / repositories.NAME
    repositories.create(target, Config(hash=hash), shared)
    return Store(target)


def salvage(
    damaged: str | Path, target: str | Path, others: Sequence[str | Path] = (), progress: Progress | None = None
) -> SalvageReport:
    """Make a new store of what is readable in a badly damaged one, which is not written to.

    target: where: `target` itself if it is named `.castore`, else `target/.castore`. others: directories with copies of
    commits or packs of the damaged store. What is lost of commits that are kept counts as dropped.

    Raises StoreNotFoundError, StoreExistsError, StorageError; UsageError when there is no record in any of the files.
    """
    from castore.history.actor import now
    from castore.maintenance.salvaging.salvage import salvage as run

    return run(Path(damaged), Path(target), [Path(one) for one in others], now(), progress or Silent())


def discover(start: Path) -> Path:
    """The nearest `.castore` in `start` or above it. Raises StoreNotFoundError."""
    return repositories.discover(start)


class Store(Committing, Loading, History, RefNames, Keeping, Tiering, Upkeep, Accounts):
    """A store, open. Use it as a context manager, or call `close`. Safe to use from several threads.

    path: the `.castore` directory. last_new_bytes: what the newest commit made through this object added on disk.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self._repo = repositories.Repository(path.absolute(), progress)  # it stays where it is if we go elsewhere
        self.path = self._repo.path
        self.last_new_bytes = 0

    @property
    def repository(self) -> repositories.Repository:
        """The store's rooms, wired together: for castore's own doors beside this one."""
        return self._repo

    @property
    def progress(self) -> Progress:
        """Where long phases report to."""
        return self._repo.progress

    def close(self) -> None:
        """Let go of files and threads. The store can't be used afterwards."""
        self._repo.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
