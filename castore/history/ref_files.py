"""The small files that refs and reflogs are: reading them with suspicion, and writing them so that a crash harms none.

Names here are paths below the store, with `/`: `HEAD`, `refs/heads/main`, `logs/refs/heads/main`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from castore import _fs, limits
from castore.errors import CorruptError


def open_regular(root: Path, name: str) -> BinaryIO | None:
    """Open a file of the store for reading, or None where there is no file of that name.

    Symbolic links, devices and pipes raise CorruptError: castore makes none, and one that somebody else put there
    could lead out of the store or block for ever.
    """
    path = root / name
    _refuse_links(root, name)
    try:
        return os.fdopen(_fs.open_regular(path), "rb")
    except FileNotFoundError:
        return None
    except CorruptError:
        if path.is_dir() and not path.is_symlink():
            return None
        raise


def read_small(root: Path, name: str, limit: int) -> bytes | None:
    """The first `limit` bytes of a file, or None where there is none. Raises CorruptError as `open_regular` does."""
    file = open_regular(root, name)
    if file is None:
        return None
    with file, _fs.storage_errors("read", root / name):
        return file.read(limit)


def list_names(directory: Path) -> Iterator[str]:
    """The files below a directory, relative to it, in no order. Symbolic links are listed and never followed.

    Hidden files are not: no ref may start with a dot, and what a crash leaves of a write does (`.NAME.*.tmp`).
    """
    pending = [""]
    while pending:
        prefix = pending.pop()
        for entry in _scan(directory / prefix):
            name = prefix + entry.name
            if entry.name.startswith(".") or len(os.fsencode(name)) > limits.MAX_REF_NAME_BYTES:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(name + "/")
            else:
                yield name


def write(root: Path, name: str, data: bytes) -> None:
    """Write a file whole and durably, with the directories it needs. Call with the store's lock held."""
    _refuse_links(root, name)
    path = root / name
    if path.is_dir() and not path.is_symlink():
        remove_leftovers(path)  # a crash came between deleting `a/b` and removing the directory `a`
        _fs.remove_dir(path)
    _fs.make_dirs(path.parent, root)
    _fs.replace(path, data)


def delete(root: Path, name: str, keep: str) -> None:
    """Delete a file durably, then the directories that this leaves empty, up to `keep`. Call with the lock held."""
    _refuse_links(root, name)
    path = root / name
    if not path.parent.is_dir():
        return
    _fs.remove(path)
    _fs.sync_dir(path.parent)
    directory, top = path.parent, root / keep
    while directory != top:
        _fs.remove_dir(directory)
        if directory.exists():
            return
        directory = directory.parent
        _fs.sync_dir(directory)


def remove_leftovers(directory: Path) -> None:
    """Remove what crashed writes left below a directory: temporary files and empty directories. Lock held."""
    for entry in _scan(directory):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            remove_leftovers(path)
            _fs.remove_dir(path)
        elif is_leftover(entry.name):
            _fs.remove(path)


def is_leftover(file_name: str) -> bool:
    """Whether a file name is one that `_fs.replace` writes to before it renames."""
    return file_name.startswith(".") and file_name.endswith(".tmp")


def _scan(directory: Path) -> list[os.DirEntry[str]]:
    with _fs.storage_errors("list", directory):
        try:
            with os.scandir(directory) as entries:
                return list(entries)
        except FileNotFoundError:
            return []  # removed by another process since its parent was listed


def _refuse_links(root: Path, name: str) -> None:
    """Raise CorruptError where a symbolic link stands for a directory on the way to a file."""
    directory = root
    for component in name.split("/")[:-1]:
        directory /= component
        if directory.is_symlink():
            raise _fs.foreign(directory, "a symbolic link")
