"""Encoding chunks against other bases: a stretch of one column at a time, each chunk decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from castore.chunks import pack
from castore.chunks.bases import REST_GENERATIONS
from castore.chunks.decode import Wanted
from castore.chunks.hashing import checksum
from castore.chunks.index import Place
from castore.codecs import RAW
from castore.codecs.choice import Encoded, choose
from castore.errors import CorruptError
from castore.limits import MAX_SPAN
from castore.maintenance.copying import Copier
from castore.maintenance.repacking.kept_states import Column
from castore.maintenance.repacking.placement import Choice, Track
from castore.repo import Repository

if TYPE_CHECKING:
    from castore.codecs.row_column import Rows


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a column, by positions in it, and its track. chunks, raw_bytes: what is to be encoded anew."""

    column: Column
    track: Track
    positions: Sequence[int]
    chunks: int
    raw_bytes: int


@dataclass(slots=True)
class Encodings:
    """What came of stretches. left: packs in which a record lies that was written anew. damaged: chunks that can't be
    decoded, with why."""

    records: int = 0
    raw_bytes: int = 0
    left: set[bytes] = field(default_factory=set)
    damaged: dict[bytes, str] = field(default_factory=dict)

    def add(self, other: Encodings) -> None:
        self.records += other.records
        self.raw_bytes += other.raw_bytes
        self.left |= other.left
        self.damaged.update(other.damaged)


def outlook(track: Track, positions: Iterable[int]) -> tuple[Track, list[Choice | None]]:
    """What a track chooses if all deltas pay, and the track as it is then."""
    track = track.copy()
    choices = []
    for at in positions:
        choice = track.choose(at)
        if choice is not None:
            track.settle(at, choice.base)
        choices.append(choice)
    return track, choices


def encode(repo: Repository, stretch: Stretch, out: Copier) -> Encodings:
    """Write the records of a stretch that are to change, and settle all of it. Safe from many threads.

    A chunk that can't be decoded is left as it is, and nothing comes to stand on it. One to which a delta does not pay
    stands alone and says so, as in a commit: it is not tried again.
    """
    return _Encoder(repo, stretch, out).run()


class _Encoder:
    def __init__(self, repo: Repository, stretch: Stretch, out: Copier) -> None:
        self._repo = repo
        self._stretch = stretch
        self._out = out
        self._raw: dict[bytes, memoryview] = {}
        self._places: dict[bytes, Place] = {}
        self._found = Encodings()

    def run(self) -> Encodings:
        stretch = self._stretch
        _, choices = outlook(stretch.track, stretch.positions)
        wanted: dict[bytes, None] = {}
        for at, choice in zip(stretch.positions, choices, strict=True):
            if choice is not None and choice.changes:
                wanted.update({stretch.column.ids[at]: None, **({choice.base: None} if choice.base else {})})
        self._decode(list(wanted))
        for at in stretch.positions:
            self._place(at)
        return self._found

    def _decode(self, ids: Sequence[bytes]) -> None:
        """Fetch the raw bytes of chunks, all at once; where that fails one by one, to find out which are damaged."""
        places = self._repo.chunks.access.use(lambda index: index.get_many(ids))
        there = [(one, place) for one, place in zip(ids, places, strict=True) if place is not None]
        self._found.damaged.update((one, "it is in no pack") for one in set(ids).difference(dict(there)))
        wanted = [Wanted(one, place, memoryview(bytearray(place.raw_length))) for one, place in there]
        try:
            self._repo.chunks.decoder.decode(wanted)
        except CorruptError as error:
            if len(ids) > 1:
                for one in ids:
                    self._decode([one])
            else:
                self._found.damaged[ids[0]] = str(error)
            return
        self._raw.update((item.id, item.out.toreadonly()) for item in wanted)
        self._places.update(there)

    def _bytes(self, chunk: bytes) -> memoryview | None:
        if chunk not in self._raw and chunk not in self._found.damaged:
            self._decode([chunk])
        return self._raw.get(chunk)

    def _place(self, at: int) -> None:
        track, column = self._stretch.track, self._stretch.column
        chunk = column.ids[at]
        while True:
            choice = track.choose(at)
            if choice is None:
                return
            if not choice.changes:
                track.settle(at, choice.base)
                return
            raw = self._bytes(chunk)
            if raw is None or len(raw) % column.dtype.width:
                return
            base = self._bytes(choice.base) if choice.base is not None else None
            if choice.base is None or base is not None:
                break
            track.drop(choice.base)
        rows = None if base is None else self._rows()
        encoded = choose(raw, column.dtype, base, rows, low_rank=not column.together)
        if base is None and encoded.codec_id == RAW == self._places[chunk].codec:
            track.settle(at, None)  # it was tried
        elif encoded.is_delta and choice.base is not None:
            self._write(chunk, (choice.base,), encoded, len(raw), min(choice.span, MAX_SPAN))
            track.settle(at, choice.base)
        else:
            self._write(chunk, (), encoded, len(raw), 0 if base is None else REST_GENERATIONS)
            track.settle(at, None)

    def _rows(self) -> Rows | None:
        """How the column's chunks lie in their matrix, where that is of use."""
        column = self._stretch.column
        if not (column.width and (column.together or self._repo.config.repack_low_rank)):
            return None
        from castore.codecs.row_column import Rows

        return Rows(column.width, column.number * self._repo.config.chunk_elements % column.width)

    def _write(
        self, chunk: bytes, bases: tuple[bytes, ...], encoded: Encoded, raw_length: int, generation: int
    ) -> None:
        place, payload = self._places[chunk], encoded.payload
        entry = pack.Entry(
            id=chunk,
            bases=bases,
            offset=0,
            length=len(payload),
            raw_length=raw_length,
            checksum=checksum(payload),
            kind=place.kind,
            codec=encoded.codec_id,
            dtype=self._stretch.column.dtype.code,
            generation=generation,
        )
        self._out.append(entry, payload)
        self._found.records += 1
        self._found.raw_bytes += raw_length
        self._found.left.add(place.pack)
        self._repo.progress.advance(raw_length)
