"""A file that is being committed: opened once, read by position, and checked not to have changed meanwhile."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType

from castore._fs import storage_errors
from castore.errors import StateError


class FileSource:
    """A regular file, open for reading. `span` may be called from several threads at once.

    Read by pread, never mmap: a file that is truncated while it is mapped kills the process with SIGBUS.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises StateError for what is not a regular file, StorageError when it can't be read."""
        self.path = path
        try:
            with storage_errors("read", path):
                # O_NONBLOCK: opening a fifo must not wait for its writer.
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            raise StateError(f"cannot commit {path}: there is no such file") from None
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise StateError(f"cannot commit {path}: it is {kind_of(found.st_mode)}, not a regular file")
        self.size = found.st_size
        self._before = _identity(found)

    def span(self, offset: int, nbytes: int) -> bytes:
        """Exactly `nbytes` bytes at `offset`. Raises StateError when the file has become shorter than it was."""
        pieces: list[bytes] = []
        with storage_errors("read", self.path):
            while nbytes > 0:
                piece = os.pread(self._fd, nbytes, offset)
                if not piece:
                    raise self._changed()
                pieces.append(piece)
                offset += len(piece)
                nbytes -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def verify_unchanged(self) -> None:
        """Raise StateError when the file was written to or replaced since it was opened."""
        try:
            by_name = _identity(self.path.stat())
        except OSError:
            raise self._changed() from None
        if not self._before == _identity(os.fstat(self._fd)) == by_name:
            raise self._changed()

    def _changed(self) -> StateError:
        return StateError(f"{self.path} changed while it was read; commit it again once its writer has finished")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> FileSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kind_of(mode: int) -> str:
    """What a file that is not a regular one is, in words, from its `st_mode`."""
    for is_kind, words in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISLNK, "a symlink"),
    ):
        if is_kind(mode):
            return words
    return "a special file"


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
