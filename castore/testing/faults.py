"""Faults: the n-th write operation of the store fails, writes short, or is the last thing that its process does.

What is replaced are the system calls that `castore._fs` makes, one level below castore's own code, so that all of that
runs as it would on a disk that is full or failing:

    with faults.inject("sync", nth=2, error=errno.EIO) as fault:
        store.commit(state)                 # raises StorageError
    assert fault.struck

Operations, in the words of `_fs`: create, write, short_write, resize, sync, sync_dir, rename, link, append, remove,
make_dir, remove_dir. LMDB writes the index by itself, and is out of reach. One fault or recording at a time, for all
threads.
"""

from __future__ import annotations

import contextlib
import errno as errors
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from castore import _fs


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that was about to be carried out: what, and on which file (the source of a rename).

    other: the new name that a rename gives, or the file that a link gives a second name. data: what a write or an
    append was given. offset: where in the file a write puts it, or where a resize ends the file.
    """

    name: str
    path: Path
    other: Path | None = None
    data: bytes = b""
    offset: int = 0


class Recorder:
    """The operations met so far, in order; `struck` once the fault has come."""

    def __init__(self, strike: Callable[[Operation, int], None]) -> None:
        self.operations: list[Operation] = []
        self.struck = False
        self._strike = strike
        self._lock = threading.Lock()

    def meet(self, operation: Operation) -> None:
        """Called before each operation; raises what the fault is."""
        with self._lock:
            self.operations.append(operation)
            number = sum(1 for one in self.operations if one.name == operation.name)
        self._strike(operation, number)


@contextlib.contextmanager
def record(before: Callable[[], None] = lambda: None) -> Iterator[Recorder]:
    """Let every operation through, and list them. before: called ahead of each."""
    with _installed(Recorder(lambda operation, number: before())) as recorder:
        yield recorder


@contextlib.contextmanager
def inject(name: str = "", nth: int = 1, error: int = errors.EIO, after: bool = False) -> Iterator[Recorder]:
    """Make the `nth` operation called `name` (of any name if "") fail with `error`, an errno; those after it work.

    after: all that follow fail too, as on a disk that stays full or has gone.
    "short_write": the `nth` write or append takes only a part of its bytes, and says so; there is no error.
    """

    def strike(operation: Operation, number: int) -> None:
        count = number if name else len(recorder.operations)
        if (operation.name == name or not name) and (count == nth or (after and count > nth)):
            recorder.struck = True
            raise OSError(error, os.strerror(error), str(operation.path))

    recorder = Recorder(strike)
    short = _ShortWrite(nth, recorder) if name == "short_write" else None
    with _installed(recorder, short):
        yield recorder


@contextlib.contextmanager
def die_at(nth: int) -> Iterator[Recorder]:
    """End this process at its `nth` operation, before it is carried out, as `kill -9` would. For a child process."""

    def strike(operation: Operation, number: int) -> None:
        if len(recorder.operations) >= nth:
            os._exit(9)

    recorder = Recorder(strike)
    with _installed(recorder):
        yield recorder


@contextlib.contextmanager
def stop_at(nth: int) -> Iterator[Recorder]:
    """Stop this process ahead of its `nth` operation, until somebody sends it SIGCONT. For a child process."""

    def strike(operation: Operation, number: int) -> None:
        if len(recorder.operations) == nth:
            recorder.struck = True
            os.kill(os.getpid(), signal.SIGSTOP)

    recorder = Recorder(strike)
    with _installed(recorder):
        yield recorder


class _ShortWrite:
    def __init__(self, nth: int, recorder: Recorder) -> None:
        self._left = nth
        self._recorder = recorder

    def taken(self, size: int) -> int:
        """How many of `size` bytes are written."""
        self._left -= 1
        if self._left != 0:
            return size
        self._recorder.struck = True
        return size // 2


class _SystemCalls:
    """Stands in for the module `os` inside `castore._fs`: everything but what writes is handed on."""

    def __init__(self, recorder: Recorder, short: _ShortWrite | None) -> None:
        self._meet = recorder.meet
        self._short = short

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_EXCL or (flags & os.O_CREAT and not os.path.lexists(path)):
            self._meet(Operation("create", Path(path)))
        return os.open(path, flags, mode)

    def pwritev(self, fd: int, parts: Sequence[memoryview], offset: int) -> int:
        size = sum(len(part) for part in parts)
        taken = self._taken(size)
        data = b"".join(parts)[:taken]
        self._meet(Operation("write", _path(fd), data=data, offset=offset))
        return os.pwritev(fd, parts if taken == size else [data], offset)

    def write(self, fd: int, data: bytes) -> int:
        data = data[: self._taken(len(data))]
        self._meet(Operation("append", _path(fd), data=data))
        return os.write(fd, data)

    def _taken(self, size: int) -> int:
        return size if self._short is None else self._short.taken(size)

    def fsync(self, fd: int) -> None:
        self._meet(Operation("sync_dir" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync", _path(fd)))
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        self._meet(Operation("sync", _path(fd)))
        os.fdatasync(fd)

    def ftruncate(self, fd: int, size: int) -> None:
        self._meet(Operation("resize", _path(fd), offset=size))
        os.ftruncate(fd, size)

    def replace(self, source: Path, target: Path) -> None:
        self._meet(Operation("rename", Path(source), Path(target)))
        os.replace(source, target)

    def link(self, source: Path, target: Path, follow_symlinks: bool) -> None:
        self._meet(Operation("link", Path(target), Path(source)))
        os.link(source, target, follow_symlinks=follow_symlinks)

    def unlink(self, path: Path) -> None:
        self._meet(Operation("remove", Path(path)))
        os.unlink(path)

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        self._meet(Operation("make_dir", Path(path)))
        os.mkdir(path, mode)

    def rmdir(self, path: Path) -> None:
        self._meet(Operation("remove_dir", Path(path)))
        os.rmdir(path)


def _path(fd: int) -> Path:
    return Path(f"/proc/self/fd/{fd}").readlink()


@contextlib.contextmanager
def _installed(recorder: Recorder, short: _ShortWrite | None = None) -> Iterator[Recorder]:
    module = vars(_fs)
    if module["os"] is not os:
        raise RuntimeError("one fault at a time: another one is injected already")
    module["os"] = _SystemCalls(recorder, short)
    try:
        yield recorder
    finally:
        module["os"] = os
