"""The index: record id -> where it lies. Derived from the packs, never synced, rebuilt when it can't be trusted.

LMDB's rules are kept here: one environment per process and path, opened again after a fork, no read transaction that
outlives a batch of look-ups, a sparse map that grows while no transaction is open in this process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb

from castore import limits
from castore.chunks.pack import Entry
from castore.errors import CastoreError, StorageError

_PLACE = struct.Struct("<QIIQBBBB")
_EPOCH = b"gc-epoch"
_MAGIC = b"\xde\xc0\xef\xbe"
_PAGE_BYTES = (4096, 8192, 16384, 32768)  # LMDB takes the machine's page size, up to its own bound
_DISK_ERRORS = tuple(os.strerror(code) for code in (errno.EIO, errno.EFBIG, errno.EDQUOT, errno.EROFS))
_MAX_MAP_BYTES = 1 << 46


class IndexDamagedError(CastoreError):
    """The index cannot be read. Never reaches a caller of ChunkStore: the index is rebuilt from the packs."""


@dataclass(frozen=True, slots=True)
class Place:
    """A record as the index knows it: an entry, and the pack that it lies in."""

    pack: bytes
    offset: int
    length: int
    raw_length: int
    checksum: int
    kind: int
    codec: int
    dtype: int
    base: bytes
    generation: int = 0

    @classmethod
    def of(cls, pack_id: bytes, e: Entry) -> Place:
        return cls(
            pack_id, e.offset, e.length, e.raw_length, e.checksum, e.kind, e.codec, e.dtype, e.base, e.generation
        )

    def entry(self, record_id: bytes) -> Entry:
        return Entry(
            record_id,
            self.base,
            self.offset,
            self.length,
            self.raw_length,
            self.checksum,
            self.kind,
            self.codec,
            self.dtype,
            self.generation,
        )


class _Environment:
    """One LMDB environment of this process, shared by every Index on its path."""

    def __init__(self, directory: Path, read_only: bool) -> None:
        self.pid = os.getpid()
        self.users = 0
        self._gate = threading.Condition()
        self._active = 0
        self._resizing = False
        data = directory / "data.mdb"
        _check_size(data)
        self.env = lmdb.open(
            str(directory),
            map_size=max(limits.INDEX_MAP_BYTES, 2 * data.stat().st_size if data.exists() else 0),
            max_dbs=4,
            max_readers=1024,
            sync=False,  # derived data: after a crash of the machine it is rebuilt, see ChunkStore
            metasync=False,
            readonly=read_only,
            lock=not read_only,
            mode=0o600,
        )
        self.inode = data.stat().st_ino
        create = not read_only
        self.records = self.env.open_db(b"records", create=create)
        self.packs = self.env.open_db(b"packs", create=create)
        self.meta = self.env.open_db(b"meta", create=create)

    @contextlib.contextmanager
    def transaction(self, write: bool = False) -> Iterator[lmdb.Transaction]:
        """A short transaction. While the map is being resized nobody gets one."""
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
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        with self._gate:
            self._active -= 1
            self._gate.notify_all()

    def resize(self, size: int) -> None:
        """Set the map's size (0: what the file says) once no transaction of this process is open."""
        with self._gate:
            self._gate.wait_for(lambda: not self._resizing)
            self._resizing = True
            try:
                self._gate.wait_for(lambda: self._active == 0)
                self.env.set_mapsize(size)
            finally:
                self._resizing = False
                self._gate.notify_all()

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


def _inode(directory: Path) -> int | None:
    try:
        return (directory / "data.mdb").stat().st_ino
    except FileNotFoundError:
        return None


_environments: dict[Path, _Environment] = {}
_environments_lock = threading.Lock()


class Index:
    """Look-ups and updates. Updates are made with the store's lock held."""

    def __init__(self, directory: Path, hash_size: int, read_only: bool = False) -> None:
        self.directory = directory.resolve()
        self._hash_size = hash_size
        self._read_only = read_only
        self._environment: _Environment | None = None
        self._acquire()

    def _acquire(self) -> _Environment:
        """This process's environment: a child of fork gets its own."""
        current = self._environment
        if current is not None and current.pid == os.getpid():
            return current
        with _environments_lock:
            found = _environments.get(self.directory)
            if found is None or found.pid != os.getpid() or found.inode != _inode(self.directory):
                with _lmdb_errors():
                    found = _Environment(self.directory, self._read_only)
                _environments[self.directory] = found
            found.users += 1
        self._environment = found
        return found

    def close(self) -> None:
        """Let go of the environment; the last user in this process closes it."""
        current, self._environment = self._environment, None
        if current is None or current.pid != os.getpid():
            return
        with _environments_lock:
            current.users -= 1
            if current.users == 0:
                if _environments.get(self.directory) is current:
                    del _environments[self.directory]
                current.env.close()

    def is_replaced(self) -> bool:
        """Whether another process has rebuilt the index: this one's file is no longer the one in the store."""
        return _inode(self.directory) != self._acquire().inode

    def get(self, record_id: bytes) -> Place | None:
        return self.get_many((record_id,))[0]

    def get_many(self, ids: Sequence[bytes]) -> list[Place | None]:
        """The places of records, None for each that the index does not have."""
        environment = self._acquire()
        with _lmdb_errors(), environment.transaction() as txn:
            return [self._parse(txn.get(record_id, db=environment.records)) for record_id in ids]

    def _parse(self, found: bytes | memoryview | None) -> Place | None:
        if found is None:
            return None
        value = bytes(found)
        size, head = self._hash_size, _PLACE.size
        if len(value) != head + size and len(value) != head + 2 * size:
            raise IndexDamagedError("the index holds an entry of the wrong size")
        offset, length, raw_length, checksum, kind, codec, dtype, generation = _PLACE.unpack_from(value)
        pack_id, base = value[head : head + size], value[head + size :]
        return Place(pack_id, offset, length, raw_length, checksum, kind, codec, dtype, base, generation)

    @staticmethod
    def _value(place: Place) -> bytes:
        p = place
        head = _PLACE.pack(p.offset, p.length, p.raw_length, p.checksum, p.kind, p.codec, p.dtype, p.generation)
        return head + p.pack + p.base

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Place]]:
        """All records whose id starts with `prefix`, in the order of their ids; read in short transactions."""
        environment = self._acquire()
        after: bytes | None = None
        while True:
            batch: list[tuple[bytes, Place]] = []
            with _lmdb_errors(), environment.transaction() as txn, txn.cursor(db=environment.records) as cursor:
                found = cursor.set_range(prefix if after is None else after)
                if found and after is not None and cursor.key() == after:
                    found = cursor.next()
                while found and len(batch) < 4096 and cursor.key()[: len(prefix)] == prefix:
                    place = self._parse(cursor.value())
                    assert place is not None
                    batch.append((bytes(cursor.key()), place))
                    found = cursor.next()
            yield from batch
            if len(batch) < 4096:
                return
            after = batch[-1][0]

    def packs(self) -> dict[bytes, int]:
        """The packs that the index knows, with their sizes in bytes."""
        environment = self._acquire()
        with _lmdb_errors(), environment.transaction() as txn, txn.cursor(db=environment.packs) as cursor:
            return {bytes(key): int.from_bytes(value, "little") for key, value in cursor}

    def count(self) -> int:
        """How many records the index has."""
        environment = self._acquire()
        with _lmdb_errors(), environment.transaction() as txn:
            return int(txn.stat(environment.records)["entries"])

    def epoch(self) -> int:
        """Another number after each sweep and in each new index: a commit in flight looks whether it changed."""
        environment = self._acquire()
        with _lmdb_errors(), environment.transaction() as txn:
            return int.from_bytes(txn.get(_EPOCH, db=environment.meta, default=b""), "little")

    def update(
        self,
        packs: Iterable[tuple[bytes, int]] = (),
        records: Sequence[tuple[bytes, Place]] = (),
        gone_packs: Iterable[bytes] = (),
        gone_records: Sequence[bytes] = (),
        swept: bool = False,
    ) -> None:
        """One atomic change: packs (id, size) and records that came, then what went. `swept` begins another epoch."""
        environment = self._acquire()
        packs, gone_packs = list(packs), list(gone_packs)
        while True:
            try:
                with _lmdb_errors(), environment.transaction(write=True) as txn:
                    for pack_id, size in packs:
                        txn.put(pack_id, size.to_bytes(8, "little"), db=environment.packs)
                    for record_id, place in records:
                        txn.put(record_id, self._value(place), db=environment.records)
                    for record_id in gone_records:
                        txn.delete(record_id, db=environment.records)
                    for pack_id in gone_packs:
                        txn.delete(pack_id, db=environment.packs)
                    if swept:
                        txn.put(_EPOCH, secrets.token_bytes(8), db=environment.meta)
                return
            except lmdb.MapFullError:
                environment.grow()

    def sync(self) -> None:
        """Put the index on stable storage; only where no boot id tells that the machine went down."""
        self._acquire().env.sync(True)


@contextlib.contextmanager
def _lmdb_errors() -> Iterator[None]:
    try:
        yield
    except (lmdb.MapFullError, lmdb.MapResizedError):
        raise
    except lmdb.ReadersFullError as error:
        raise StorageError("more than 1024 processes read this store at once; close some") from error
    except lmdb.DiskError as error:
        raise StorageError(
            f"cannot write the index: {error}; free some space, what was committed before is unharmed"
        ) from error
    except lmdb.Error as error:
        if str(error).endswith(_DISK_ERRORS):  # lmdb has no class for these
            raise StorageError(f"cannot write the index: {error}; what was committed before is unharmed") from error
        raise IndexDamagedError(f"the index cannot be used: {error}") from error
    except OSError as error:
        raise IndexDamagedError(f"the index cannot be used: {error}") from error
