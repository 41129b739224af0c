"""Reading packs: open files, positional reads, footers. Nothing here writes."""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from castore import _fs
from castore._fs import storage_errors
from castore.chunks import pack
from castore.chunks.hashing import Hash
from castore.chunks.writer import pack_path
from castore.errors import CastoreError, CorruptError, MissingError

_OPEN_FILES = 128


class _OpenFile:
    """A file descriptor that is closed when the last user lets go of it."""

    fd = -1

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = _fs.open_regular(path)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


_all: weakref.WeakSet[PackFiles] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """A thread that the child has not got may have held a lock."""
    for files in _all:
        files._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


class PackFiles:
    """The packs of a store, opened when they are needed; a bounded number stays open."""

    def __init__(self, packs: Path, hash_: Hash) -> None:
        self.directory = packs
        self.formats = pack.formats(hash_.size)
        self.format = self.formats[0]
        self._hash = hash_
        self._lock = threading.Lock()
        _all.add(self)
        self._open: collections.OrderedDict[bytes, _OpenFile] = collections.OrderedDict()

    def _file(self, pack_id: bytes) -> _OpenFile:
        with self._lock:
            file = self._open.get(pack_id)
            if file is not None:
                self._open.move_to_end(pack_id)
                return file
        path = self._path(pack_id)
        file = _OpenFile(path)
        with self._lock:
            self._open[pack_id] = file
            while len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)
        return file

    def _path(self, pack_id: bytes) -> Path:
        return pack_path(self.directory, pack_id)

    def _is_named(self, pack_id: bytes, footer_hash: bytes) -> bool:
        return pack_id == footer_hash

    def forget(self, pack_id: bytes) -> None:
        """Close a pack that was deleted."""
        with self._lock:
            self._open.pop(pack_id, None)

    def close(self) -> None:
        with self._lock:
            self._open.clear()

    def read_into(self, pack_id: bytes, offset: int, out: memoryview) -> None:
        """Fill `out` from `offset` of a pack. Raises FileNotFoundError: it is gone; CorruptError: it is short."""
        file = self._file(pack_id)
        with storage_errors("read", file.path):
            while out:
                count = os.preadv(file.fd, [out], offset)
                if count == 0:
                    raise CorruptError(f"{file.path} is truncated; run `castore fsck --repair`")
                offset += count
                out = out[count:]

    def read_ahead(self, pack_id: bytes, start: int, end: int) -> None:
        """Let the disk begin to read a part of a pack that is going to be wanted; what cannot be read says so then."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError, CastoreError):
                os.posix_fadvise(self._file(pack_id).fd, start, end - start, os.POSIX_FADV_WILLNEED)

    def read(self, pack_id: bytes, offset: int, length: int) -> bytes:
        """`length` bytes at `offset`; errors as in read_into."""
        data = bytearray(length)
        self.read_into(pack_id, offset, memoryview(data))
        return bytes(data)

    def size(self, pack_id: bytes) -> int:
        """The size of a pack's file in bytes. Raises FileNotFoundError."""
        return os.fstat(self._file(pack_id).fd).st_size

    def drop_cache(self, pack_id: bytes) -> None:
        """Let the system forget what it holds of a pack in memory, so that the next read is one of the disk.

        Raises FileNotFoundError.
        """
        file = self._file(pack_id)
        with storage_errors("read", file.path):
            os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def format_of(self, pack_id: bytes) -> pack.Format:
        """The format of a pack, by its header. Raises CorruptError, FileNotFoundError."""
        return pack.format_of(self.read(pack_id, 0, pack.HEADER_BYTES), self.formats)

    def footer(self, pack_id: bytes) -> list[pack.Entry]:
        """A pack's entries, checked against the footer's hash and its name. Raises CorruptError, FileNotFoundError."""
        size = self.size(pack_id)
        if size < pack.HEADER_BYTES + self.format.trailer_bytes:
            raise CorruptError("the pack is truncated: it is too short for a header and a trailer")
        fmt = self.format_of(pack_id)
        trailer = fmt.parse_trailer(self.read(pack_id, size - fmt.trailer_bytes, fmt.trailer_bytes), size)
        data = self.read(pack_id, trailer.footer_offset, size - fmt.trailer_bytes - trailer.footer_offset)
        if self._hash.digest(data) != trailer.footer_hash or not self._is_named(pack_id, trailer.footer_hash):
            raise CorruptError("the pack's footer is damaged: its hash is wrong")
        return fmt.parse_footer(data, trailer.count, trailer.footer_offset)

    def ids(self) -> Iterator[bytes]:
        """The ids of all packs on disk, by their names, in order."""
        size = self.format.hash_size
        try:
            directories = sorted(self.directory.iterdir())
        except FileNotFoundError:
            raise MissingError(
                f"{self.directory} is missing: the store's packs are gone; restore them from a copy"
            ) from None
        for directory in directories:
            for path in sorted(directory.glob("*.pack")) if directory.is_dir() else ():
                try:
                    pack_id = bytes.fromhex(path.stem)
                except ValueError:
                    continue  # not a name that castore gives: somebody else's file
                if len(pack_id) == size and directory.name == path.stem[:2]:
                    yield pack_id
