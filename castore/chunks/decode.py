"""From places to bytes: reading records, following their bases, checking what comes out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from castore import codecs, limits
from castore.chunks.access import IndexAccess
from castore.chunks.batch import Batch, Buffers
from castore.chunks.closure import TangledError, closure, depths
from castore.chunks.hashing import Hash
from castore.chunks.index import Place
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError, MissingError

_COALESCE_GAP_BYTES = 32 << 10  # records this close in a pack are read in one go
_RUN_BYTES = 2 * limits.MIB
_STRAIGHT_BYTES = 64 << 10  # from here on a payload that is the chunk itself is read to where the chunk goes
_LOOKS = 4  # at where records are, without the lock; repack may move one several times
_WINDOW_BYTES = 2 * limits.MIB  # of payloads read ahead: what the processor's cache has room for


@dataclass(slots=True)
class Wanted:
    """A chunk to decode: its id, its place, and where its raw bytes go ("B", writable, of exactly the raw length)."""

    id: bytes
    place: Place
    out: memoryview


def _missing(ids: Sequence[bytes], places: Sequence[Place | None]) -> set[bytes]:
    return {one for one, place in zip(ids, places, strict=True) if place is None}


class Decoder:
    """Decodes records into the caller's memory; every chunk is checked against its id. Safe from many threads."""

    def __init__(self, access: IndexAccess, files: PackFiles, hash_: Hash) -> None:
        self._access = access
        self._files = files
        self._hash = hash_
        self._local = threading.local()

    def places(self, ids: Sequence[bytes]) -> list[Place]:
        """Where records lie. Raises MissingError when one is in no pack."""
        found = self._access.use(lambda index: index.get_many(ids))
        if None in found and (self._access.look_again() or self._access.mend(_missing(ids, found))):
            found = self._access.use(lambda index: index.get_many(ids))
        places = [place for place in found if place is not None]
        if len(places) != len(ids):
            record_id = ids[found.index(None)]
            raise MissingError(f"record {record_id.hex()} is in no pack; run `castore fsck` to see what it affects")
        return places

    def closure(self, records: Mapping[bytes, Place]) -> dict[bytes, Place]:
        """Records and all that they need to be decoded. Raises MissingError, CorruptError."""
        return closure(records, self.places)

    def foresee(self, wanted: Sequence[Wanted]) -> dict[bytes, Place] | None:
        """The closure of what is going to be decoded; None where that fails, of which `decode` makes what can be made.

        Where bases come to it, which lie elsewhere, the disk begins to read all of it. What lies in one stretch alone
        it reads ahead by itself.
        """
        chunks = {item.id: item.place for item in wanted}
        try:
            needed = self.closure(chunks)
        except CorruptError:  # MissingError and TangledError too
            return None
        if len(needed) > len(chunks):
            for run in _runs(sorted(needed.items(), key=lambda item: (item[1].pack, item[1].offset))):
                self._files.read_ahead(run.pack, run.start, run.end)
        return needed

    def decode(self, wanted: Sequence[Wanted], needed: Mapping[bytes, Place] | None = None) -> None:
        """Fill every `out`. Raises CorruptError naming the record when bytes, checksum, payload or id are wrong.

        needed: what `foresee` said of them.
        """
        for look in range(_LOOKS):
            try:
                return self._decode(wanted, needed if look == 0 else None)
            except (FileNotFoundError, TangledError):
                # gc or repack moved a record between the look-up and the read, or stood two on each other the other way
                # round between two look-ups: the index says where they are now, if it is the one that they changed.
                self._access.follow()
                if look == _LOOKS - 1:
                    self._access.mend()  # or it is damaged, and names a pack that never was
            except MissingError:
                raise
            except CorruptError:
                if not self._access.mend():
                    raise
            self._look_up(wanted)
        with self._access.still():  # whoever moves records faster than we read them waits
            self._look_up(wanted)
            try:
                self._decode(wanted)
            except FileNotFoundError as error:
                raise MissingError(
                    f"pack {error.filename} is gone; run `castore fsck` to see what it affects"
                ) from None

    def _look_up(self, wanted: Sequence[Wanted]) -> None:
        for item, place in zip(wanted, self.places([item.id for item in wanted]), strict=True):
            item.place = place

    def _decode(self, wanted: Sequence[Wanted], needed: Mapping[bytes, Place] | None = None) -> None:
        outs: dict[bytes, memoryview] = {}
        again = []  # a chunk that several places want is decoded for the first of them
        for item in wanted:
            first = outs.setdefault(item.id, item.out)
            if len(item.out) != item.place.raw_length or len(item.out) != len(first):
                raise CorruptError(f"chunk {item.id.hex()} is not as long as what it is a part of")
            if first is not item.out:
                again.append(item)
        if needed is None:
            needed = self.closure({item.id: item.place for item in wanted})
        try:
            self._decode_into(outs, needed, checked=False)
        except MissingError:
            raise
        except CorruptError:
            self._decode_into(outs, needed, checked=True)  # whose fault it is, if it is one of the disk's
        for item in again:
            item.out[:] = outs[item.id]

    def _decode_into(self, outs: Mapping[bytes, memoryview], needed: Mapping[bytes, Place], checked: bool) -> None:
        """Decode a closure in order. checked: compare payloads with their checksums before they are decoded, which
        tells a damaged base from what stands on it. Whether they are right, chunks' ids tell in either case."""
        order = list(depths(needed))
        batch = Batch(outs, needed, order, self._buffers(), checked)
        for window in _windows(order, needed):
            payloads = self._payloads({one: needed[one] for one in window}, outs)
            for record_id in window:
                try:
                    batch.decode(record_id, payloads[record_id])
                except CorruptError as error:
                    raise batch.named(record_id, error) from None
                out = outs.get(record_id)
                if out is not None and self._hash.digest(out) != record_id:
                    where = f"chunk {record_id.hex()} of pack {needed[record_id].pack.hex()}"
                    raise CorruptError(f"{where} is damaged: it decodes to other bytes")

    def _buffers(self) -> Buffers:
        found: Buffers | None = getattr(self._local, "buffers", None)
        if found is None:
            found = self._local.buffers = Buffers()
        return found

    def _payloads(self, places: Mapping[bytes, Place], outs: Mapping[bytes, memoryview]) -> dict[bytes, memoryview]:
        """Read payloads, close ones together, into this thread's scratch memory; large ones that are the chunk itself
        into its memory of `outs`."""
        found = {one: outs[one] for one, place in places.items() if one in outs and _goes_straight(place)}
        for record_id, out in found.items():
            self._files.read_into(places[record_id].pack, places[record_id].offset, out)
        rest = [item for item in places.items() if item[0] not in found]
        runs = _runs(sorted(rest, key=lambda item: (item[1].pack, item[1].offset)))
        scratch = self.scratch("payload", sum(run.end - run.start for run in runs))
        for run in runs:
            part, scratch = scratch[: run.end - run.start], scratch[run.end - run.start :]
            self._files.read_into(run.pack, run.start, part)
            for record_id, place in run.records:
                at = place.offset - run.start
                found[record_id] = part[at : at + place.length]
        return found

    def scratch(self, name: str, size: int) -> memoryview:
        """This thread's buffer of at least `size` bytes: kept, fresh pages cost more than what is done in them."""
        buffer = getattr(self._local, name, None)
        if buffer is None or len(buffer) < size:
            buffer = bytearray(size + size // 4)
            setattr(self._local, name, buffer)
        return memoryview(buffer)[:size]


@dataclass(slots=True)
class _Run:
    """Records that lie close together in a pack: one read."""

    pack: bytes
    start: int
    end: int
    records: list[tuple[bytes, Place]]


def _goes_straight(place: Place) -> bool:
    return place.codec == codecs.RAW and place.length == place.raw_length >= _STRAIGHT_BYTES


def _runs(records: Iterable[tuple[bytes, Place]]) -> list[_Run]:
    """Cut records, sorted by pack and offset, into runs that are worth one read each."""
    runs: list[_Run] = []
    for item in records:
        place = item[1]
        end = place.offset + place.length
        if runs:
            run = runs[-1]
            near = place.offset - run.end <= _COALESCE_GAP_BYTES and end - run.start <= _RUN_BYTES
            if near and run.pack == place.pack:
                run.end = max(run.end, end)
                run.records.append(item)
                continue
        runs.append(_Run(place.pack, place.offset, end, [item]))
    return runs


def _windows(order: list[bytes], needed: Mapping[bytes, Place]) -> Iterator[list[bytes]]:
    """Cut the records to be decoded where their payloads would take too much memory at once."""
    window: list[bytes] = []
    size = 0
    for record_id in order:
        length = needed[record_id].length
        if window and size + length > _WINDOW_BYTES:
            yield window
            window, size = [], 0
        window.append(record_id)
        size += length
    if window:
        yield window
