"""Memory that two processes share: what a loop's tensors are copied into, and what is committed from there.

Each segment is an anonymous file, mapped by both. Its pages stay from commit to commit, so that a copy into them costs
no page faults; a system's shared-memory quota (/dev/shm) plays no part.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from castore.errors import StorageError


class Releasable(Protocol):
    def release(self) -> None: ...


@dataclass(slots=True)
class Segment:
    """One mapped anonymous file. number: its name between the processes. view: all of it, writable. address: where it
    begins in this process.

    pins: what keeps its pages locked for devices (see `devices.Pin`).
    """

    number: int
    fd: int
    nbytes: int
    mapped: mmap.mmap
    view: memoryview
    address: int
    pins: list[Releasable] = field(default_factory=list)

    def close(self) -> None:
        """Give the memory back, as far as nobody still looks into it."""
        while self.pins:
            self.pins.pop().release()
        os.close(self.fd)
        self.view.release()
        with contextlib.suppress(BufferError):  # a view of it lives on; its pages go with that
            self.mapped.close()


def create(number: int, nbytes: int) -> Segment:
    """A new segment. Raises StorageError when the memory cannot be had."""
    try:
        fd = _anonymous_file()
        os.ftruncate(fd, nbytes)
        return attach(number, fd, nbytes)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"cannot get {nbytes} bytes of shared memory to stage commits in ({error}); set delta_base='disk', "
            "which needs half of it, or commit less"
        ) from None


def attach(number: int, fd: int, nbytes: int) -> Segment:
    """A segment by its file descriptor, which it owns from now on."""
    mapped = mmap.mmap(fd, nbytes)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    return Segment(number, fd, nbytes, mapped, memoryview(mapped), address)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("castore-staging", os.MFD_CLOEXEC)
    file, path = tempfile.mkstemp(prefix="castore-staging-")  # not on Linux
    Path(path).unlink()
    return file
