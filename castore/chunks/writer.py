"""Writing one pack: records in any order from several threads, then the footer, then fsync."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from castore import _fs, limits
from castore.chunks import pack
from castore.chunks.hashing import Hash
from castore.codecs.base import Buffer

if TYPE_CHECKING:
    from castore.chunks.blocks import Spare


@dataclass(frozen=True, slots=True)
class SealedPack:
    """A finished pack, durable as a file but not yet in `packs/`."""

    id: bytes
    path: Path
    size: int
    entries: tuple[pack.Entry, ...]


class PackWriter:
    """Appends records to a new file in `incoming/`, whose lock it holds until it is closed."""

    def __init__(self, incoming: Path, hash_: Hash, direct: bool = False, spare: Spare | None = None) -> None:
        """direct: past the page cache, see `Blocks`. spare: memory that it shares with other packs of one writer."""
        from castore.chunks.blocks import Blocks, Spare  # numpy: 60 ms that reading history has no use for

        self._format = pack.Format(hash_.size)
        self._hash = hash_
        self._file = _create_locked(incoming)
        self.spare = Spare() if spare is None else spare
        self._blocks = Blocks(self._file, direct, self.spare)
        self._lock = threading.Lock()
        self._entries: dict[bytes, pack.Entry] = {}
        self.size = len(self._format.header)
        self._blocks.write_at(0, self._format.header)

    def append(self, entry: pack.Entry, payload: Buffer) -> pack.Entry:
        """Add a record; its offset is set here. A second record of one id takes the place of the first."""
        apart = self._blocks.takes_apart(payload)
        with self._lock:
            start = self.size
            offset = (
                self._blocks.place_apart(start) if apart else start + self._format.record_header_bytes(len(entry.bases))
            )
            entry = self._entries[entry.id] = entry.at(offset)
            self.size = offset + len(payload)
        header = self._format.record_header(entry)
        if apart:
            self._blocks.write_apart(start, header, payload)
        else:
            self._blocks.write_at(start, header)
            self._blocks.write_at(offset, payload)
        return entry

    def seal(self) -> SealedPack:
        """Write the footer and put the file on stable storage. No thread may still be appending.

        Raises StorageError, also for what failed while the pack was being written.
        """
        entries = tuple(sorted(self._entries.values(), key=lambda entry: entry.offset))
        footer = self._format.footer(entries)
        footer_hash = self._hash.digest(footer)
        trailer = self._format.trailer(pack.Trailer(self.size, len(entries), footer_hash))
        self._blocks.write_at(self.size, footer + trailer)
        self._blocks.finish()
        self.size += len(footer) + len(trailer)
        return SealedPack(footer_hash, self._file.path, self.size, entries)

    def close(self) -> None:
        """Let go of the file's lock; the file stays where it is."""
        self._blocks.end_flush()
        self._file.close()

    def discard(self) -> None:
        """Delete what was written."""
        self.close()
        _fs.remove(self._file.path)


class PackSet:
    """The packs that one writer fills, one after another; seen by nobody until they are moved in."""

    def __init__(self, incoming: Path, hash_: Hash, direct: bool = False) -> None:
        """direct: past the page cache, see `Blocks`."""
        self._incoming = incoming
        self._hash = hash_
        self._direct = direct
        self._lock = threading.Lock()
        self._writers: list[PackWriter] = []
        self.sealed: list[SealedPack] = []

    def append(self, entry: pack.Entry, payload: Buffer) -> None:
        """Add a record to the current pack. May be called from many threads."""
        self._current().append(entry, payload)

    def _current(self) -> PackWriter:
        with self._lock:
            full = not self._writers or self._writers[-1].size > limits.PACK_TARGET_BYTES
            if full or len(self.sealed) == len(self._writers):
                spare = self._writers[-1].spare if self._writers else None
                self._writers.append(PackWriter(self._incoming, self._hash, self._direct, spare))
            return self._writers[-1]

    def seal(self) -> None:
        """Put what was appended so far on stable storage. No thread may still be appending. Raises StorageError."""
        for writer in self._writers[len(self.sealed) :]:
            self.sealed.append(writer.seal())

    def sizes(self) -> list[tuple[bytes, int]]:
        """The sealed packs, for the index: (id, size in bytes)."""
        return [(one.id, one.size) for one in self.sealed]

    def move_in(self, packs: Path) -> None:
        """Move the sealed packs into `packs/`, durably. Call with the store's lock held."""
        for one in self.sealed:
            move_in(one, packs)

    def end(self, keep: bool) -> None:
        """Let go of the files; delete those that were not moved in unless `keep`."""
        for writer in self._writers:
            writer.close() if keep else writer.discard()


def _create_locked(incoming: Path) -> _fs.File:
    while True:
        file = _fs.File.create(incoming / f"{os.getpid()}-{os.urandom(8).hex()}.pack")
        if file.lock():
            return file
        file.close()


def pack_path(packs: Path, pack_id: bytes) -> Path:
    """Where a pack lives: packs/3f/3f9a....pack."""
    name = pack_id.hex()
    return packs / name[:2] / f"{name}.pack"


def move_in(sealed: SealedPack, packs: Path) -> None:
    """Move a sealed pack into `packs/`, durably. Call with the store's lock held."""
    target = pack_path(packs, sealed.id)
    _fs.make_dir(target.parent)
    _fs.rename(sealed.path, target)
    _fs.sync_dir(target.parent)
