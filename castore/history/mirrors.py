"""Mirrors: which store lay in which second directory when it was last seen; an empty mount point is told from it.

A file `mirrors`: a checksum of the rest, and then one line a directory: the uuid of the store in it, a space, its path.
"""

from __future__ import annotations

from pathlib import Path

from castore import _fs, limits
from castore.errors import CorruptError
from castore.history import ref_files
from castore.history.marks import split_check, with_check

NAME = "mirrors"


class Mirrors:
    """The directories that copies of a store's commits lie in. Changes are made with the store's lock held."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self) -> dict[str, str]:
        """The uuid of the store in each directory. Raises CorruptError that says what is wrong with the file."""
        data = ref_files.read_small(self._root, NAME, limits.MAX_CONFIG_BYTES) or b""
        lines, is_whole = split_check(data)
        if not is_whole:
            raise CorruptError(
                f"{self._root / NAME} is damaged, or was changed by hand: look at it, and if all is right delete its "
                "first line"
            )
        found: dict[str, str] = {}
        for number, line in enumerate(lines.decode("utf-8", "surrogateescape").splitlines(), 1):
            uuid, space, path = line.partition(" ")
            if not uuid or not space or not path:
                raise CorruptError(f"{self._root / NAME} has a damaged line, {number}; delete it")
            found[path] = uuid
        return found

    def remember(self, path: str, uuid: str) -> None:
        """Note which store lies in a directory."""
        found = {**self.read(), path: uuid}
        lines = "".join(f"{one} {path}\n" for path, one in sorted(found.items()))
        _fs.replace(self._root / NAME, with_check(lines.encode("utf-8", "surrogateescape")))
