"""A directory that is being committed: which of its files go in, in a fixed order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from castore import limits
from castore._fs import storage_errors
from castore.errors import StateError
from castore.state.files.names import STORE_NAME, folded, unsafe_reason
from castore.state.files.source import kind_of


@dataclass(frozen=True, slots=True)
class FileTree:
    """A directory's entries by name, sorted by the bytes of their names: the path of a file, or a FileTree.

    skipped: what was left out, one line each (`NAME: why`), of this directory and all below.
    """

    entries: dict[str, Path | FileTree] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def files(self, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Path]]:
        """Every file with the components of its path from the root."""
        for name, entry in self.entries.items():
            if isinstance(entry, FileTree):
                yield from entry.files((*above, name))
            else:
                yield (*above, name), entry


def safe_tree(path: Path) -> FileTree:
    """Walk a directory. Symlinks to files are followed; symlinked directories and dangling links are skipped and
    said, as is a `.castore` inside. Raises StateError, naming it, for what can't be kept or checked out again:
    a socket, fifo or device, a name that is not UTF-8 or not portable, two names that differ only by case.
    """
    return _walk(path, 0)


def _walk(directory: Path, depth: int) -> FileTree:
    if depth > limits.MAX_TREE_NESTING:
        raise StateError(f"cannot commit {directory}: directories are nested deeper than {limits.MAX_TREE_NESTING}")
    tree = FileTree()
    seen: dict[str, str] = {}
    try:
        with storage_errors("list", directory):
            names = sorted(os.listdir(directory), key=os.fsencode)  # noqa: PTH208 - plain names, not paths
    except FileNotFoundError:
        raise StateError(f"cannot commit {directory}: there is no such directory") from None
    for name in names:
        if name == STORE_NAME:
            tree.skipped.append(f"{directory / name}: a store")
            continue
        _check_name(directory, name, seen)
        entry = _entry(directory / name, depth, tree.skipped)
        if entry is not None:
            tree.entries[name] = entry
    return tree


def _check_name(directory: Path, name: str, seen: dict[str, str]) -> None:
    if reason := unsafe_reason(name):
        raise StateError(f"cannot commit {name!a} in {_shown(directory)}: {reason}; rename it")
    other = seen.setdefault(folded((name,)), name)
    if other != name:
        raise StateError(f"cannot commit {directory / name}: {other!r} differs from it only by case; rename one")


def _entry(path: Path, depth: int, skipped: list[str]) -> Path | FileTree | None:
    linked = path.is_symlink()
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if not linked:
            raise StateError(f"cannot commit {path}: {error.strerror}") from None
        skipped.append(f"{path}: a symlink that leads nowhere")
        return None
    if stat.S_ISREG(mode):
        return path
    if not stat.S_ISDIR(mode):
        raise StateError(f"cannot commit {path}: it is {kind_of(mode)}; remove it or commit the files by name")
    if linked:
        skipped.append(f"{path}: a symlink to a directory")
        return None
    below = _walk(path, depth + 1)
    skipped.extend(below.skipped)
    return below


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")
