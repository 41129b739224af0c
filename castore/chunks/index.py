"""The index: record id -> where it lies. Derived from the packs, never synced, rebuilt when it can't be trusted."""

from __future__ import annotations

import os
import struct
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import lmdb

from castore import limits
from castore.chunks import environment
from castore.chunks.environment import Environment, IndexDamagedError, lmdb_errors
from castore.chunks.pack import Entry

_PLACE = struct.Struct("<QIIQBBBB")
_EPOCH = b"gc-epoch"
NO_SKETCHES: Mapping[bytes, bytes | None] = MappingProxyType({})


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
    bases: tuple[bytes, ...]
    generation: int = 0

    @classmethod
    def of(cls, pack_id: bytes, e: Entry) -> Place:
        return cls(
            pack_id, e.offset, e.length, e.raw_length, e.checksum, e.kind, e.codec, e.dtype, e.bases, e.generation
        )

    def entry(self, record_id: bytes) -> Entry:
        return Entry(
            record_id,
            self.bases,
            self.offset,
            self.length,
            self.raw_length,
            self.checksum,
            self.kind,
            self.codec,
            self.dtype,
            self.generation,
        )


class Index:
    """Look-ups and updates. Updates are made with the store's lock held."""

    def __init__(self, directory: Path, hash_size: int, read_only: bool = False) -> None:
        self.directory = directory.resolve()
        self._hash_size = hash_size
        self._read_only = read_only
        self._environment: Environment | None = None
        self._acquire()

    def _acquire(self) -> Environment:
        """This process's environment: a child of fork gets its own."""
        current = self._environment
        if current is not None and current.pid == os.getpid():
            return current
        self._environment = environment.acquire(self.directory, self._read_only)
        return self._environment

    def close(self) -> None:
        """Let go of the environment; the last user in this process closes it."""
        current, self._environment = self._environment, None
        if current is not None:
            environment.release(current, self.directory)

    def is_replaced(self) -> bool:
        """Whether another process has rebuilt the index: this one's file is no longer the one in the store."""
        return environment.inode(self.directory) != self._acquire().inode

    def get(self, record_id: bytes) -> Place | None:
        return self.get_many((record_id,))[0]

    def get_many(self, ids: Sequence[bytes]) -> list[Place | None]:
        """The places of records, None for each that the index does not have."""
        opened = self._acquire()
        with lmdb_errors(), opened.transaction() as txn:
            return [self._parse(txn.get(record_id, db=opened.records)) for record_id in ids]

    def _parse(self, found: bytes | memoryview | None) -> Place | None:
        if found is None:
            return None
        value = bytes(found)
        size, head = self._hash_size, _PLACE.size
        links = len(value) - head - size
        if links % size or not 0 <= links <= limits.MAX_BASES * size:
            raise IndexDamagedError("the index holds an entry of the wrong size")
        offset, length, raw_length, checksum, kind, codec, dtype, generation = _PLACE.unpack_from(value)
        if length > limits.MAX_PAYLOAD_BYTES or raw_length > limits.MAX_OBJECT_BYTES or offset >= 1 << 62:
            raise IndexDamagedError("the index holds a place that no record can have")
        pack_id = value[head : head + size]
        bases = tuple([value[at : at + size] for at in range(head + size, len(value), size)]) if links else ()
        return Place(pack_id, offset, length, raw_length, checksum, kind, codec, dtype, bases, generation)

    @staticmethod
    def _value(place: Place) -> bytes:
        p = place
        head = _PLACE.pack(p.offset, p.length, p.raw_length, p.checksum, p.kind, p.codec, p.dtype, p.generation)
        return b"".join((head, p.pack, *p.bases))

    def in_packs(self, packs: Container[bytes]) -> Iterator[tuple[bytes, Place]]:
        """All records that have their place in one of some packs, in the order of their ids."""
        return ((record_id, place) for record_id, place in self.items() if place.pack in packs)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Place]]:
        """All records whose id starts with `prefix`, in the order of their ids; read in short transactions."""
        opened = self._acquire()
        after: bytes | None = None
        while True:
            batch: list[tuple[bytes, Place]] = []
            with lmdb_errors(), opened.transaction() as txn, txn.cursor(db=opened.records) as cursor:
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
        opened = self._acquire()
        with lmdb_errors(), opened.transaction() as txn, txn.cursor(db=opened.packs) as cursor:
            return {bytes(key): int.from_bytes(value, "little") for key, value in cursor}

    def count(self) -> int:
        """How many records the index has."""
        opened = self._acquire()
        with lmdb_errors(), opened.transaction() as txn:
            return int(txn.stat(opened.records)["entries"])

    def epoch(self) -> int:
        """Another number after each sweep and in each new index: a commit in flight looks whether it changed."""
        opened = self._acquire()
        with lmdb_errors(), opened.transaction() as txn:
            return int.from_bytes(txn.get(_EPOCH, db=opened.meta, default=b""), "little")

    def sketches(self, prefix: bytes, most: int, most_bytes: int) -> dict[bytes, bytes]:
        """Sketches whose key starts with `prefix`, by key: the first `most`, or as many as take `most_bytes`."""
        opened = self._acquire()
        found: dict[bytes, bytes] = {}
        with lmdb_errors(), opened.transaction() as txn, txn.cursor(db=opened.sketches) as cursor:
            there = cursor.set_range(prefix)
            while there and len(found) < most and most_bytes > 0 and cursor.key()[: len(prefix)] == prefix:
                value = found[bytes(cursor.key())] = bytes(cursor.value())
                most_bytes -= len(value)
                there = cursor.next()
        return found

    def update(
        self,
        packs: Iterable[tuple[bytes, int]] = (),
        records: Sequence[tuple[bytes, Place]] = (),
        gone_packs: Iterable[bytes] = (),
        gone_records: Sequence[bytes] = (),
        swept: bool = False,
        sketches: Mapping[bytes, bytes | None] = NO_SKETCHES,
    ) -> None:
        """One atomic change: packs (id, size) and records that came, then what went. `swept` begins another epoch.

        sketches: hints for choosing bases, by key; each starts with the id of the record that it stands on, or is a
        mark, which is empty. None: it went.
        """
        opened = self._acquire()
        packs, gone_packs = list(packs), list(gone_packs)
        while True:
            try:
                with lmdb_errors(), opened.transaction(write=True) as txn:
                    for pack_id, size in packs:
                        txn.put(pack_id, size.to_bytes(8, "little"), db=opened.packs)
                    for record_id, place in records:
                        txn.put(record_id, self._value(place), db=opened.records)
                    for record_id in gone_records:
                        txn.delete(record_id, db=opened.records)
                    for pack_id in gone_packs:
                        txn.delete(pack_id, db=opened.packs)
                    for key, sketch in sketches.items():
                        if sketch is None:
                            txn.delete(key, db=opened.sketches)
                        else:
                            txn.put(key, sketch, db=opened.sketches)
                    if swept:
                        txn.put(_EPOCH, os.urandom(8), db=opened.meta)
                        self._sweep_sketches(opened, txn)
                return
            except lmdb.MapFullError:
                opened.grow()

    def _sweep_sketches(self, opened: Environment, txn: lmdb.Transaction) -> None:
        """Forget sketches whose record is gone, and then the marks: there may be others of the same tensors to make."""
        gone, marks = [], []
        with txn.cursor(db=opened.sketches) as cursor:
            for key, value in cursor:
                if not value:
                    marks.append(key)
                elif txn.get(value[: self._hash_size], db=opened.records) is None:
                    gone.append(key)
        for key in gone + (marks if gone else []):
            txn.delete(key, db=opened.sketches)

    def sync(self) -> None:
        """Put the index on stable storage; only where no boot id tells that the machine went down."""
        self._acquire().env.sync(True)
