"""From places to bytes: reading records, following their bases, checking what comes out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from castore import codecs, dtypes, limits
from castore.chunks import pack
from castore.chunks.access import IndexAccess
from castore.chunks.hashing import Hash, checksum
from castore.chunks.index import Place
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError, MissingError

_COALESCE_GAP_BYTES = 32 << 10  # records this close in a pack are read in one go
_RUN_BYTES = 2 * limits.MIB


@dataclass(slots=True)
class Wanted:
    """A chunk to decode: its id, its place, and where its raw bytes go ("B", writable, of exactly the raw length)."""

    id: bytes
    place: Place
    out: memoryview


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
        if None in found and self._access.look_again():
            found = self._access.use(lambda index: index.get_many(ids))
        places = [place for place in found if place is not None]
        if len(places) != len(ids):
            record_id = ids[found.index(None)]
            raise MissingError(f"record {record_id.hex()} is in no pack; run `castore fsck` to see what it affects")
        return places

    def chains(self, places: Sequence[Place]) -> list[list[Place]]:
        """For each place the records that decode it, from the standalone one to itself, level by level."""
        chains = [[place] for place in places]
        open_chains = [chain for chain in chains if chain[0].base]
        depth = 0
        while open_chains:
            depth += 1
            if depth > limits.MAX_DEPTH:
                raise CorruptError("a chunk's deltas form a circle or a chain beyond all bounds; run `castore fsck`")
            for chain, base in zip(open_chains, self.places([c[0].base for c in open_chains]), strict=True):
                chain.insert(0, base)
            open_chains = [chain for chain in open_chains if chain[0].base]
        return chains

    def decode(self, wanted: Sequence[Wanted]) -> None:
        """Fill every `out`. Raises CorruptError naming the record when bytes, checksum, payload or id are wrong."""
        try:
            self._decode(wanted)
        except FileNotFoundError:
            # gc or repack moved a record between the look-up and the read: the index says where it is now.
            for item, place in zip(wanted, self.places([item.id for item in wanted]), strict=True):
                item.place = place
            try:
                self._decode(wanted)
            except FileNotFoundError as error:
                raise MissingError(
                    f"pack {error.filename} is gone; run `castore fsck` to see what it affects"
                ) from None

    def _decode(self, wanted: Sequence[Wanted]) -> None:
        chains = self.chains([item.place for item in wanted])
        payloads = self._payloads({(p.pack, p.offset): p for chain in chains for p in chain})
        for item, chain in zip(wanted, chains, strict=True):
            if any(place.raw_length != len(item.out) for place in chain):
                raise CorruptError(f"chunk {item.id.hex()} and its base differ in length; run `castore fsck`")
            for place in chain:
                decode_payload(place, payloads[place.pack, place.offset], item.out, bool(place.base), item.id)
            if self._hash.digest(item.out) != item.id:
                where = f"chunk {item.id.hex()} of pack {chain[-1].pack.hex()}"
                raise CorruptError(f"{where} is damaged: it decodes to other bytes")

    def _payloads(self, places: dict[tuple[bytes, int], Place]) -> dict[tuple[bytes, int], memoryview]:
        """Read payloads, close ones together, into this thread's scratch memory."""
        runs = _runs([places[key] for key in sorted(places)])
        scratch = self.scratch("payload", sum(run[-1].offset + run[-1].length - run[0].offset for run in runs))
        found = {}
        for run in runs:
            start = run[0].offset
            length = run[-1].offset + run[-1].length - start
            part, scratch = scratch[:length], scratch[length:]
            self._files.read_into(run[0].pack, start, part)
            for place in run:
                found[place.pack, place.offset] = part[place.offset - start : place.offset - start + place.length]
        return found

    def scratch(self, name: str, size: int) -> memoryview:
        """This thread's buffer of at least `size` bytes: kept, fresh pages cost more than what is done in them."""
        buffer = getattr(self._local, name, None)
        if buffer is None or len(buffer) < size:
            buffer = bytearray(size + size // 4)
            setattr(self._local, name, buffer)
        return memoryview(buffer)[:size]


def _runs(places: list[Place]) -> list[list[Place]]:
    """Cut records, sorted by pack and offset, into runs that are worth one read each."""
    runs: list[list[Place]] = []
    for place in places:
        if runs and runs[-1][0].pack == place.pack:
            run = runs[-1]
            gap = place.offset - (run[-1].offset + run[-1].length)
            if gap <= _COALESCE_GAP_BYTES and place.offset + place.length - run[0].offset <= _RUN_BYTES:
                run.append(place)
                continue
        runs.append([place])
    return runs


def decode_payload(
    place: Place | pack.Entry, payload: memoryview, out: memoryview, is_delta: bool, record_id: bytes
) -> None:
    """Check a payload and decode it into `out`, which holds the base's bytes if it is a delta."""
    if checksum(payload) != place.checksum:
        raise CorruptError(f"record of chunk {record_id.hex()} is damaged: the checksum of its payload is wrong")
    codec = codecs.by_id(place.codec)
    if codec.is_delta != is_delta:
        raise CorruptError(f"record of chunk {record_id.hex()} is damaged: codec {codec.name} does not fit its base")
    codec.decode(payload, dtypes.by_code(place.dtype), out)
