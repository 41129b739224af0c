"""One writer's session: chunks and objects go into packs of its own, and into the store all at once."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from castore import _fs, codecs, dtypes, limits
from castore.chunks import pack
from castore.chunks.access import IndexAccess
from castore.chunks.bases import Base, DeltaLimits, base_of, rest_of
from castore.chunks.decode import Decoder, Wanted
from castore.chunks.foresight import Foreseen, Foresight, Outlook
from castore.chunks.hashing import Hash, checksum
from castore.chunks.index import NO_SKETCHES, Index, Place
from castore.chunks.writer import PackSet, pack_path
from castore.codecs.base import Buffer
from castore.codecs.choice import STANDALONE_WORTHWHILE, Encoded, choose, choose_predicted
from castore.dtypes import DType
from castore.errors import CastoreError, CorruptError, StateError

if TYPE_CHECKING:
    from castore.codecs.row_column import Rows

_MOST_EXPECTED = 1 << 14  # places of chunks that a session remembers from before its threads begin


@dataclass(frozen=True, slots=True)
class Put:
    """A chunk to store. base: the id of the chunk that may serve as its base, b"" for none.

    foreign: the base is a chunk of another tensor, not of an earlier version of this one, and may be gone by now.
    rows: how the chunk lies in a matrix whose rows and columns change together.
    """

    raw: memoryview
    dtype: DType
    base: bytes = b""
    foreseen: Foreseen | None = None
    foreign: bool = False
    rows: Rows | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a chunk: its id, and the bytes that it added to the store (0: it was there already)."""

    id: bytes
    added_bytes: int
    is_delta: bool


class WriteSession:
    """Collects what one commit adds. Nothing of it can be seen before `publish`, and leaving without it deletes it.

    Chunks that the store has are reused, not written. Until the commit is published gc may sweep them, since no ref
    leads to the commit yet; so publishing starts with `swept()`, under the store's lock, and what is missing then is
    put again.
    """

    def __init__(
        self,
        root: Path,
        hash_: Hash,
        access: IndexAccess,
        decoder: Decoder,
        deltas: DeltaLimits,
        epoch: int,
        known: Mapping[bytes, memoryview],
        worthwhile: float = STANDALONE_WORTHWHILE,
    ) -> None:
        """root: the `.castore` directory. epoch: the index's, before the first look-up of this session.

        known: raw bytes that the caller still has, by chunk id, so that bases among them need not be decoded. They
        are checked against their ids before use. worthwhile: see `choose`; below its default, a base that is not known
        is not decoded either, and packs are written past the page cache.
        """
        self._packs = root / "packs"
        self._hash = hash_
        self._access = access
        self._decoder = decoder
        self._limits = deltas
        self._epoch = epoch
        self._known = known
        self._worthwhile = worthwhile
        self._in_haste = worthwhile < STANDALONE_WORTHWHILE
        self._lock = threading.Lock()
        self._written_packs = PackSet(root / "incoming", hash_, direct=self._in_haste)
        self._written: dict[bytes, Stored] = {}  # what this session put into its packs, or is about to
        self._reused: set[bytes] = set()
        self._expected: Mapping[bytes, Place] = {}
        self._bases: dict[bytes, tuple[bytes, ...]] = {}  # of the deltas that this session wrote
        self._foresight = Foresight(decoder, deltas)
        self._published = False
        self.anchors: set[bytes] = set()  # chunks written that deltas to their next versions are going to stand on
        self.damaged_bases = 0
        self.added_bytes = 0

    def __enter__(self) -> WriteSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._written_packs.end(keep=self._published)

    def expect(self, ids: Collection[bytes]) -> None:
        """Look up chunks that are likely to be put again, or to be bases, if they are not too many to remember. Threads
        that do so beside each other take six times as long: each look-up lets go of the interpreter's lock."""
        if len(ids) <= _MOST_EXPECTED:
            self._expected = self._places(sorted(ids))

    def put_chunks(self, puts: Sequence[Put]) -> list[Stored]:
        """Store chunks, reusing those that are there. May be called from many threads."""
        ids = [self._hash.digest(put.raw) for put in puts]
        stored: list[Stored | None] = [None] * len(puts)
        unknown = []
        for number, chunk_id in enumerate(ids):
            if chunk_id in self._reused:
                stored[number] = Stored(chunk_id, 0, False)
            else:
                unknown.append(number)
        # All look-ups at once: a transaction of the index takes as long as hashing a chunk.
        wanted = {one for n in unknown for one in (ids[n], puts[n].base) if one} - self._expected.keys()
        places = self._places(sorted(wanted))

        def place(one: bytes) -> Place | None:
            return self._expected.get(one) or places.get(one)

        for n in unknown:
            stored[n] = self._put(puts, ids, n, place(ids[n]), place(puts[n].base))
        return [one for one in stored if one is not None]

    def _places(self, ids: Sequence[bytes]) -> dict[bytes, Place]:
        """The places of those that the store has."""
        if not ids:
            return {}
        found = self._access.use(lambda index: index.get_many(ids))
        return {one: place for one, place in zip(ids, found, strict=True) if place is not None}

    def _put(
        self, puts: Sequence[Put], ids: Sequence[bytes], number: int, place: Place | None, parent: Place | None
    ) -> Stored:
        put, chunk_id = puts[number], ids[number]
        with self._lock:
            earlier = self._written.get(chunk_id)
            if earlier is not None:
                return Stored(chunk_id, 0, False)
            if place is not None:
                self._reused.add(chunk_id)
                return Stored(chunk_id, 0, False)
            self._written[chunk_id] = Stored(chunk_id, 0, False)  # claimed: another thread need not encode it too
        outlook = self._outlook(puts, ids, number, None if put.foreign else parent)
        foreseen = choose_predicted(put.raw, put.dtype, outlook.prediction) if outlook is not None else None
        if outlook is not None and foreseen is not None:
            self._foresight.learn(chunk_id, outlook.depth)
            return self._add_chunk(put, chunk_id, outlook.bases, foreseen, outlook.generation)
        base, encoded = self._chosen(put, parent)
        if base is not None and encoded.is_delta:
            self._foresight.learn(chunk_id, base.depth + 1)
            if base.depth + 1 < self._limits.depth_of(put.dtype):
                self.anchors.add(chunk_id)
            return self._add_chunk(put, chunk_id, (base.id,), encoded, base.generation)
        self._foresight.learn(chunk_id, 0)
        # That a delta to another tensor did not pay says nothing of the next one, to this tensor itself.
        rest = 0 if put.foreign else rest_of(None if self._in_haste else base, parent)
        if not rest:
            self.anchors.add(chunk_id)
        return self._add_chunk(put, chunk_id, (), encoded, rest)

    def _add_chunk(
        self, put: Put, chunk_id: bytes, bases: tuple[bytes, ...], encoded: Encoded, generation: int
    ) -> Stored:
        return self._add(chunk_id, bases, pack.CHUNK, put.dtype, len(put.raw), encoded, generation)

    def _outlook(self, puts: Sequence[Put], ids: Sequence[bytes], number: int, parent: Place | None) -> Outlook | None:
        """The prediction for a chunk, if there is one within the limits."""
        put = puts[number]
        if put.foreseen is None:
            return None
        bases: list[tuple[bytes, memoryview | None]] = [
            (ids[base], puts[base].raw) if isinstance(base, int) else (base, None) for base in put.foreseen.bases
        ]
        try:
            return self._foresight.outlook(put.foreseen, bases, ids[number], parent)
        except CorruptError:
            self.damaged_bases += 1
            return None

    def _chosen(self, put: Put, parent: Place | None) -> tuple[Base | None, Encoded]:
        """A chunk encoded, and the base that it was tried against."""
        try:
            base = self._base(put, parent) if self._known or not self._in_haste else None
            raw = None if base is None else self._known.get(base.id)
            if base is not None and raw is not None:
                encoded = choose(put.raw, put.dtype, raw, put.rows, self._worthwhile)
                if not encoded.is_delta or self._hash.digest(raw) == base.id:  # checked when it counts
                    return base, encoded
            if base is not None and not self._in_haste:
                raw = self._decoder.scratch("base", len(put.raw))
                self._decoder.decode([Wanted(base.id, base.place, raw)])
                return base, choose(put.raw, put.dtype, raw, put.rows, self._worthwhile)
        except CorruptError:
            self.damaged_bases += 1  # the new chunk is written whole; the caller tells
        return None, choose(put.raw, put.dtype, None, put.rows, self._worthwhile)

    def _base(self, put: Put, parent: Place | None) -> Base | None:
        """The base for a chunk, if there is one of the same length within the limits. Raises CorruptError."""
        if parent is None or parent.raw_length != len(put.raw):
            return None
        return base_of(self._decoder, put.base, parent, put.dtype, self._limits, put.foreign)

    def put_object(self, kind: int, data: bytes) -> bytes:
        """Store an object; returns its id. Raises StateError when it is larger than an object may be."""
        most = limits.MAX_OBJECT_BYTES if kind == pack.CHUNK_LIST else limits.MAX_CBOR_BYTES
        if len(data) > most:
            raise StateError(
                f"a value, note or message takes {len(data)} bytes, more than {most}; commit it as an array or a file"
            )
        object_id = self._hash.digest(data)
        with self._lock:
            if object_id in self._written or object_id in self._reused:
                return object_id
        if self._access.use(lambda index: index.get(object_id)) is not None:
            self._reused.add(object_id)
            return object_id
        codec = codecs.by_id(codecs.ZSTD)
        payload = codec.encode(data, dtypes.BYTES, None)
        if len(payload) >= len(data):
            codec, payload = codecs.by_id(codecs.RAW), data
        self._add(object_id, (), kind, dtypes.BYTES, len(data), Encoded(codec.id, payload, False))
        return object_id

    def _add(
        self,
        record_id: bytes,
        bases: tuple[bytes, ...],
        kind: int,
        dtype: DType,
        raw_length: int,
        encoded: Encoded,
        generation: int = 0,
    ) -> Stored:
        """Write a record, and note on which others it counts."""
        payload: Buffer = encoded.payload
        codec = encoded.codec_id
        check = self._hash.checksum_of(record_id, payload) if codec == codecs.RAW else checksum(payload)
        entry = pack.Entry(record_id, bases, 0, len(payload), raw_length, check, kind, codec, dtype.code, generation)
        self._written_packs.append(entry, payload)
        with self._lock:
            stored = self._written[record_id] = Stored(record_id, len(payload), encoded.is_delta)
            if bases:
                self._bases[record_id] = bases
        return stored

    def swept(self) -> bool:
        """Whether gc took something this session counts on; then put everything again. Call with the lock held.

        What was taken is forgotten here, so that putting it again writes it, and deltas whose base went are written
        anew without it.
        """
        self._access.refresh()
        index = self._access.index
        epoch = index.epoch()
        if epoch == self._epoch:
            return False
        self._epoch = epoch
        self._expected = {}  # as the index was
        named = {base for bases in self._bases.values() for base in bases}
        needed = sorted(self._reused | {base for base in named if base not in self._written})
        gone = {record_id for record_id, place in zip(needed, index.get_many(needed), strict=True) if place is None}
        if not gone:
            return False
        self._reused -= gone
        orphans = gone
        while orphans:
            orphans = {chunk_id for chunk_id, bases in self._bases.items() if not orphans.isdisjoint(bases)}
            for chunk_id in orphans:
                del self._bases[chunk_id], self._written[chunk_id]
                self._foresight.forget(chunk_id)
        return True

    def seal(self) -> None:
        """Put what was put so far on stable storage, still invisible. No thread may still be putting."""
        self._written_packs.seal()

    def publish(self, sketches: Mapping[bytes, bytes | None] = NO_SKETCHES) -> None:
        """Move the sealed packs in and enter them in the index. Call with the store's lock held, after `swept()`.

        sketches: what changes among those of the index, see `Index.update`.
        """
        access = self._access
        access.refresh()
        packs = self._written_packs.sizes()
        records: dict[bytes, Place] = {}
        for sealed in self._written_packs.sealed:
            # A record that was put again after a sweep lies in a later pack, and that one counts.
            records.update((entry.id, Place.of(sealed.id, entry)) for entry in sealed.entries)
        try:
            self._written_packs.move_in(self._packs)
            access.use(lambda index: index.update(packs, _unknown(index, records), sketches=sketches))
        except BaseException:
            self._withdraw()
            raise
        self._published = True
        self.added_bytes += sum(size for _, size in packs)
        access.after_update(access.index)

    def _withdraw(self) -> None:
        """Take back packs that were moved in and did not enter the index: nobody knows of them yet."""
        try:
            known = self._access.index.packs()
        except CastoreError:
            return  # the disk fails altogether; gc collects what stays
        for sealed in self._written_packs.sealed:
            if sealed.id not in known and not sealed.path.exists():
                _fs.remove(pack_path(self._packs, sealed.id))


def _unknown(index: Index, records: dict[bytes, Place]) -> list[tuple[bytes, Place]]:
    """The records that the index lacks, sorted. What it has stays as it is.

    Another session may have published one of these chunks meanwhile; ours in its place could need a base that gc took
    since, or one that has become a delta to this very chunk.
    """
    ids = sorted(records)
    return [(one, records[one]) for one, place in zip(ids, index.get_many(ids), strict=True) if place is None]
