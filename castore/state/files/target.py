"""Files that castore writes for a user, outside of any store: beside the target, synced, then renamed.

Nothing is written through a symlink, outside of the target's root, or over a file without being told to.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from castore._fs import storage_errors
from castore.errors import StorageError, TargetExistsError, UnsafePathError
from castore.state.files.names import folded, safe_join, safe_parts

__all__ = ["OutputFile", "OutputTree", "safe_join"]

_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OutputFile:
    """A file being written. Leaving the `with` block puts it in place; an exception leaves no trace of it.

    `file` is an unbuffered binary file object, for libraries that want one.
    """

    def __init__(self, path: Path, parent_fd: int, force: bool) -> None:
        """`parent_fd` is path.parent, opened; it belongs to this object from here on."""
        self.path = path
        self._force = force
        self._parent_fd = parent_fd
        self._beside = f".castore-{os.getpid()}-{secrets.token_hex(8)}.tmp"
        try:
            self._check_free()
            with storage_errors("create", path):
                flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(self._beside, flags, 0o666, dir_fd=parent_fd)
        except BaseException:
            os.close(parent_fd)
            raise
        self.file = os.fdopen(fd, "r+b", buffering=0)

    @classmethod
    def at(cls, path: Path, force: bool = False) -> OutputFile:
        """A file at a path that the user named; its directory must exist.

        Raises TargetExistsError when it is there already and not `force`, and in any case for a directory;
        UnsafePathError for a symlink.
        """
        try:
            with storage_errors("open", path.parent):
                parent_fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise StorageError(f"cannot write {path}: the directory {path.parent} does not exist") from None
        return cls(path, parent_fd, force)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of `data`."""
        view = memoryview(data).cast("B")
        with storage_errors("write", self.path):
            while view:
                view = view[self.file.write(view) :]

    def __enter__(self) -> OutputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with storage_errors("write", self.path):
                    os.fsync(self.file.fileno())
                self._check_free()
                self._place()
        finally:
            self.file.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._beside, dir_fd=self._parent_fd)
            os.close(self._parent_fd)

    def _check_free(self) -> None:
        """Raise when something is in the way that must not be replaced."""
        try:
            mode = os.stat(self.path.name, dir_fd=self._parent_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISLNK(mode):
            raise UnsafePathError(
                f"refused to write {self.path}: a symlink is in the way; remove it or write elsewhere"
            )
        if not stat.S_ISREG(mode):
            raise TargetExistsError(f"cannot write {self.path}: it exists and is not a file; write elsewhere")
        if not self._force:
            raise TargetExistsError(f"{self.path} exists; remove it, write elsewhere, or pass --force")

    def _place(self) -> None:
        fd = self._parent_fd
        with storage_errors("write", self.path):
            if self._force or not self._link():
                os.replace(self._beside, self.path.name, src_dir_fd=fd, dst_dir_fd=fd)
            os.fsync(fd)

    def _link(self) -> bool:
        """Give the file its name unless another took it meanwhile; False where the file system has no hard links."""
        try:
            os.link(self._beside, self.path.name, src_dir_fd=self._parent_fd, dst_dir_fd=self._parent_fd)
        except FileExistsError:
            raise TargetExistsError(f"{self.path} exists: another program made it meanwhile") from None
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                return False
            raise
        return True


class OutputTree:
    """A directory that a checkout fills. Paths come from a tree that somebody else may have written."""

    def __init__(self, root: Path, force: bool = False) -> None:
        """`root` is named by the user: it is created when missing, and may be a symlink to a directory."""
        self.root = root
        self._force = force
        self._written: dict[str, tuple[str, ...]] = {}
        with storage_errors("create", root):
            try:
                root.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise TargetExistsError(f"cannot write into {root}: it is a file; name a directory") from None
            self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def file(self, relative: str) -> OutputFile:
        """The file `relative` (with `/`), its directories created, none of them a symlink.

        Raises UnsafePathError, TargetExistsError (it exists, not `force`), StorageError.
        """
        parts = self._claim(relative)
        path = self.root.joinpath(*parts)
        return OutputFile(path, self._open_dirs(parts[:-1]), self._force)

    def directory(self, relative: str) -> None:
        """Create a directory, for those that hold no files."""
        os.close(self._open_dirs(self._claim(relative)))

    def _claim(self, relative: str) -> tuple[str, ...]:
        """The parts of a path, after a look at whether it or a directory of it was written in another case."""
        parts = safe_parts(relative)
        for depth in range(1, len(parts) + 1):
            head = parts[:depth]
            other = self._written.setdefault(folded(head), head)
            if other != head:
                raise UnsafePathError(
                    f"refused to write {relative!r}: it differs only by case from {'/'.join(other)!r}"
                )
        return parts

    def _open_dirs(self, parts: tuple[str, ...]) -> int:
        """A descriptor of the directory; every component is opened in the one above, so none can be swapped."""
        fd = os.dup(self._root_fd)
        for depth, part in enumerate(parts, 1):
            with _closing(fd):
                fd = self._open_dir(fd, part, self.root.joinpath(*parts[:depth]))
        return fd

    def _open_dir(self, above: int, name: str, path: Path) -> int:
        with storage_errors("create", path):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=above)
            try:
                return os.open(name, _DIR_FLAGS, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
        if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            raise UnsafePathError(f"refused to write below {path}: it is a symlink")
        raise TargetExistsError(f"cannot write below {path}: a file is in the way")

    def close(self) -> None:
        if self._root_fd >= 0:
            os.close(self._root_fd)
            self._root_fd = -1

    def __enter__(self) -> OutputTree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _closing(fd: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(fd)
