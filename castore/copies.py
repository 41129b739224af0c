"""The second directories of tiers: which there are, and the stores in them, told from an empty mount point."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from castore import config, repo
from castore.errors import StorageError, StoreNotFoundError
from castore.repo import Repository


def directories(of: Repository) -> dict[Path, tuple[str, ...]]:
    """Every directory that tiers name, with their names. A relative one begins where the store's `.castore` lies.

    Raises UsageError.
    """
    found: dict[Path, tuple[str, ...]] = {}
    for tier in of.tiers().all:
        if tier.directory is not None:
            path = Path(os.path.normpath(of.path.parent / tier.directory))
            found[path] = (*found.get(path, ()), tier.name)
    return found


@contextmanager
def opened(of: Repository, directory: Path, make: bool = False) -> Iterator[Repository]:
    """The store of copies in one of the directories. make: at first use make it.

    Raises StorageError that names the directory when it is gone, or holds another store than it did, or somebody
    else's; CorruptError.
    """
    known = of.mirrors.read().get(str(directory))
    inside = directory / repo.NAME
    try:
        settings = config.read(inside)
    except StoreNotFoundError:
        if known is not None:
            raise StorageError(
                f"{directory} does not hold the store of copies that it held ({known}): is its disk mounted? If it is "
                f"lost for good, delete its line of {of.path / 'mirrors'}, and the first one"
            ) from None
        if not make:
            raise StorageError(f"{directory} holds no copies yet: run `castore mirror`") from None
        settings = _made(of, directory)
    if settings.mirror_of != of.config.uuid:
        raise StorageError(f"{directory} holds a store of its own, not copies of {of.path}: name another directory")
    if known not in (None, settings.uuid):
        raise StorageError(
            f"{directory} holds another store ({settings.uuid}) than it did ({known}): is the right disk mounted? If "
            f"it is meant, delete its line of {of.path / 'mirrors'}, and the first one"
        )
    if make and known is None:
        with of.lock.held():
            of.mirrors.remember(str(directory), settings.uuid)
    copies = Repository(inside, of.progress)
    try:
        yield copies
    finally:
        copies.close()


def _made(of: Repository, directory: Path) -> config.Config:
    """A new store for copies: with this one's hash and chunks, and what its files are going to need."""
    if not directory.parent.is_dir():
        raise StorageError(f"{directory} can't be made, since {directory.parent} is not there: is its disk mounted?")
    settings = config.Config(
        features=config.KNOWN_FEATURES,
        hash=of.config.hash,
        chunk_elements=of.config.chunk_elements,
        mirror_of=of.config.uuid,
    )
    repo.create(directory / repo.NAME, settings)
    return settings
