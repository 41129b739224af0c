"""Copying records into new packs as they are: what gc keeps of a pack that is mostly garbage."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from castore import limits
from castore.chunks.hashing import checksum
from castore.chunks.index import Place
from castore.chunks.writer import PackWriter, SealedPack, move_in
from castore.errors import CorruptError, MissingError
from castore.repo import Repository


class Copier:
    """Copies records; leaving the `with` block without `publish` deletes the copies."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._writers: list[PackWriter] = []
        self._sealed: list[SealedPack] = []
        self._published = False

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers:
            writer.close() if self._published else writer.discard()

    def copy(self, records: Iterable[tuple[bytes, Place]]) -> None:
        """Copy records, their checksums verified. Raises MissingError, CorruptError: damage is not carried on."""
        for record_id, place in records:
            try:
                payload = self._repo.chunks.files.read(place.pack, place.offset, place.length)
            except FileNotFoundError:
                raise MissingError(f"pack {place.pack.hex()} is gone; run `castore fsck`") from None
            if checksum(payload) != place.checksum:
                raise CorruptError(
                    f"record {record_id.hex()} of pack {place.pack.hex()} is damaged; "
                    "run `castore fsck --repair` before gc"
                )
            self._writer().append(place.entry(record_id), payload)
            self._repo.progress.advance(place.length)

    def _writer(self) -> PackWriter:
        full = bool(self._writers) and self._writers[-1].size > limits.PACK_TARGET_BYTES
        if full or len(self._sealed) == len(self._writers):
            if full:
                self.seal()
            self._writers.append(PackWriter(self._repo.chunks.incoming, self._repo.hash))
        return self._writers[-1]

    def seal(self) -> None:
        """Put what was copied so far on stable storage."""
        for writer in self._writers[len(self._sealed) :]:
            self._sealed.append(writer.seal())

    def publish(self) -> tuple[list[tuple[bytes, int]], list[tuple[bytes, Place]]]:
        """Move the copies in; returns their packs and records for the index. Call with the store's lock held."""
        self.seal()
        self._published = True
        for sealed in self._sealed:
            move_in(sealed, self._repo.chunks.packs)
        packs = [(sealed.id, sealed.size) for sealed in self._sealed]
        records = sorted((entry.id, Place.of(one.id, entry)) for one in self._sealed for entry in one.entries)
        return packs, records
