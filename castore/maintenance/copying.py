"""Writing records into new packs, as they are or anew: what gc keeps of a pack that is mostly garbage, what repack
makes, what another store is to have."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from types import TracebackType

from castore._fs import storage_errors
from castore.chunks.hashing import checksum
from castore.chunks.index import Place
from castore.chunks.pack import Entry
from castore.chunks.writer import PackSet, SealedPack
from castore.codecs.base import Buffer
from castore.errors import CorruptError, MissingError, StorageError
from castore.maintenance.pace import UNBOUND, Pace
from castore.repo import Repository


class Copier:
    """Copies records; leaving the `with` block without `publish` deletes the copies.

    is_empty: nothing was written so far.
    """

    def __init__(self, repo: Repository, into: Repository | None = None) -> None:
        """into: the store that gets the copies, of the same hash; None: the one that they are of."""
        self._repo = repo
        self._into = into or repo
        self._copies = PackSet(self._into.chunks.incoming, repo.hash)
        self._published = False
        self.is_empty = True

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.end(keep=self._published)

    def copy(self, records: Iterable[tuple[bytes, Place]], pace: Pace = UNBOUND) -> None:
        """Copy records, their checksums verified. Raises MissingError, CorruptError: damage is not carried on.

        pace: only its rate counts, as long as its deadline has not come.
        """
        for record_id, place in records:
            began = time.monotonic()
            try:
                payload = self._repo.chunks.files.read(place.pack, place.offset, place.length)
            except FileNotFoundError:
                raise MissingError(f"pack {place.pack.hex()} is gone; run `castore fsck`") from None
            if checksum(payload) != place.checksum:
                raise CorruptError(
                    f"record {record_id.hex()} of pack {place.pack.hex()} is damaged; run `castore fsck --repair` first"
                )
            self.append(place.entry(record_id), payload)
            self._repo.progress.advance(place.length)
            pace.rest(began, place.length)

    def append(self, entry: Entry, payload: Buffer) -> None:
        """Write a record that was made anew. May be called from many threads."""
        self._copies.append(entry, payload)
        self.is_empty = False

    def seal(self) -> None:
        """Put what was copied so far on stable storage."""
        self._copies.seal()

    def check(self) -> None:
        """Read back from the disk what was sealed. Raises StorageError when it is not what was written."""
        for one in self._copies.sealed:
            _check(one)

    def publish(self) -> tuple[list[tuple[bytes, int]], list[tuple[bytes, Place]]]:
        """Move the copies in; returns their packs and records for the index. Call with the lock of the
        store that gets them held."""
        self.seal()
        self._published = True
        self._copies.move_in(self._into.chunks.packs)
        records = sorted((entry.id, Place.of(one.id, entry)) for one in self._copies.sealed for entry in one.entries)
        return self._copies.sizes(), records


def _check(sealed: SealedPack) -> None:
    with storage_errors("read back", sealed.path), sealed.path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # from the disk, not from memory
        for entry in sealed.entries:
            payload = os.pread(file.fileno(), entry.length, entry.offset)
            if len(payload) != entry.length or checksum(payload) != entry.checksum:
                raise StorageError(f"{sealed.path} reads back other bytes than were written: its disk fails")
