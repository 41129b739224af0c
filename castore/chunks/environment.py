"""One LMDB environment: opened once per process and path, its map grown safely, its errors told apart.

LMDB's rules are kept here: a child of fork opens its own environment, no two on one path in a process, no read
transaction that outlives a batch of look-ups, a sparse map that grows while no transaction of this process is open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb

from castore import _fs, limits
from castore.errors import CastoreError, StorageError

_MAGIC = b"\xde\xc0\xef\xbe"
_PAGE_BYTES = (4096, 8192, 16384, 32768)  # LMDB takes the machine's page size, up to its own bound
_DISK_ERRORS = tuple(os.strerror(code) for code in (errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EROFS))
_MAX_MAP_BYTES = 1 << 46


class IndexDamagedError(CastoreError):
    """The index cannot be read. Never reaches a caller of ChunkStore: the index is rebuilt from the packs."""


class Environment:
    """One LMDB environment of this process, shared by every Index on its path."""

    def __init__(self, directory: Path, read_only: bool) -> None:
        self.pid = os.getpid()
        self.users = 0
        self._directory = directory
        self._gate = threading.Condition()
        self._active = 0
        self._resizing = False
        data = directory / "data.mdb"
        _check_size(data)
        self._locks = not read_only
        self._open(writes=not read_only and not data.exists())

    def _open(self, writes: bool) -> None:
        """writes: False until there is something to write.

        To open a table for writing waits for whoever writes, and for ever, if that one was stopped. Who writes has the
        store's lock, and so nobody to wait for.
        """
        data = self._directory / "data.mdb"
        self._writes = writes
        self.env = lmdb.open(
            str(self._directory),
            map_size=max(limits.INDEX_MAP_BYTES, 2 * data.stat().st_size if data.exists() else 0),
            max_dbs=4,
            max_readers=1024,
            max_spare_txns=0,  # a child of fork ends those that there are, see `_before_fork`
            sync=False,  # derived data: after a crash of the machine it is rebuilt, see ChunkStore
            metasync=False,
            readonly=not writes,
            lock=self._locks,
            mode=_fs.file_mode(self._directory),
        )
        if writes:
            for made in (data, self._directory / "lock.mdb"):
                _fs.settle_mode(made)
        self.inode = data.stat().st_ino
        self.records = self.env.open_db(b"records", create=writes)
        self.packs = self.env.open_db(b"packs", create=writes)
        self.meta = self.env.open_db(b"meta", create=writes)
        self.sketches = self.env.open_db(b"sketches", create=writes)

    @contextlib.contextmanager
    def transaction(self, write: bool = False) -> Iterator[lmdb.Transaction]:
        """A short transaction. Nobody gets one while the map is resized. write: call with the store's lock held."""
        if write and not self._writes:
            with self._alone():
                self.env.close()
                self._open(writes=True)
        if write:
            self.env.reader_check()  # one that was killed as it read would keep its slot, and old pages, for good
        txn = self._begin(write)
        try:
            with txn:
                yield txn
        finally:
            self._leave()

    def _begin(self, write: bool) -> lmdb.Transaction:
        while True:
            with self._gate:
                self._gate.wait_for(lambda: not self._resizing)  # else those who read would keep it waiting for ever
                self._active += 1
            try:
                return self.env.begin(write=write)
            except lmdb.MapResizedError:  # another process grew the map
                self._leave()
                self.resize(0)
            except lmdb.ReadersFullError:
                self._leave()
                if not self.env.reader_check():  # the places of processes that were killed are free again
                    raise
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        with self._gate:
            self._active -= 1
            self._gate.notify_all()

    def pause(self) -> None:
        """Wait until this process has no transaction open, and let none begin until `go_on`."""
        self._gate.acquire()
        self._gate.wait_for(lambda: self._active == 0)

    def go_on(self) -> None:
        self._gate.release()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While the body runs this process has no transaction open, and begins none."""
        with self._gate:
            self._gate.wait_for(lambda: not self._resizing)
            self._resizing = True
            try:
                self._gate.wait_for(lambda: self._active == 0)
                yield
            finally:
                self._resizing = False
                self._gate.notify_all()

    def resize(self, size: int) -> None:
        """Set the map's size (0: what the file says)."""
        with self._alone():
            self.env.set_mapsize(size)

    def grow(self) -> None:
        size = self.env.info()["map_size"] * 2
        if size > _MAX_MAP_BYTES:
            raise IndexDamagedError("the index claims to be larger than any store")
        self.resize(size)


def _check_size(data: Path) -> None:
    """Refuse a truncated file before it is mapped: reading beyond its end would kill the process, not raise."""
    if not data.exists():
        return
    with data.open("rb") as file:
        head = file.read(_PAGE_BYTES[-1] * 2)
    page_bytes = int.from_bytes(head[40:44], "little")
    if page_bytes not in _PAGE_BYTES:
        raise IndexDamagedError("the index is truncated or not an index")
    for start in (0, page_bytes):
        meta = head[start + 16 : start + 16 + 152]  # MDB_meta follows the page header (lmdb.h, mdb.c)
        last_page = int.from_bytes(meta[120:128], "little")
        if len(meta) < 152 or meta[:4] != _MAGIC or (last_page + 1) * page_bytes > data.stat().st_size:
            raise IndexDamagedError("the index is truncated or not an index")


def inode(directory: Path) -> int | None:
    try:
        return (directory / "data.mdb").stat().st_ino
    except FileNotFoundError:
        return None


_environments: dict[Path, Environment] = {}
_environments_lock = threading.Lock()


def acquire(directory: Path, read_only: bool) -> Environment:
    """This process's environment on `directory`, opened if it is not, or if the files there are others by now.

    Raises IndexDamagedError, StorageError.
    """
    with _environments_lock:
        found = _environments.get(directory)
        if found is None or found.inode != inode(directory):
            with lmdb_errors():
                found = Environment(directory, read_only)
            _environments[directory] = found
        found.users += 1
    return found


def release(environment: Environment, directory: Path) -> None:
    """Let go of an environment; the last user in this process closes it. What a parent process opened is left alone."""
    if environment.pid != os.getpid():
        return
    with _environments_lock:
        environment.users -= 1
        if environment.users == 0:
            if _environments.get(directory) is environment:
                del _environments[directory]
            environment.env.close()


def _before_fork() -> None:
    """LMDB lets no process use what another one opened, and opens no file that one it was forked from has open. So the
    child closes those, which also ends the transactions that were open in them, the parent's with them: there must be
    none."""
    _environments_lock.acquire()
    for environment in _environments.values():
        environment.pause()


def _after_fork() -> None:
    for environment in _environments.values():
        environment.go_on()
    _environments_lock.release()


def _after_fork_in_child() -> None:
    for environment in _environments.values():
        environment.env.close()
    _after_fork()
    _environments.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def lmdb_errors() -> Iterator[None]:
    try:
        yield
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except lmdb.ReadersFullError as error:
        raise StorageError("more than 1024 processes read this store at once; close some") from error
    except lmdb.Error as error:
        # Of these only ENOSPC has a class; a write that a full disk cut short is an "Input/output error".
        if isinstance(error, lmdb.DiskError) or str(error).endswith(_DISK_ERRORS):
            advice = "if the disk is full, free some space; what was committed before is unharmed"
            raise StorageError(f"cannot write the index: {error}; {advice}") from error
        raise IndexDamagedError(f"the index cannot be used: {error}") from error
    except OSError as error:
        raise IndexDamagedError(f"the index cannot be used: {error}") from error
