"""Decoding a closure of records, bases first: whose memory each one goes into, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from castore import codecs, dtypes, limits
from castore.chunks.hashing import checksum
from castore.chunks.index import Place
from castore.codecs.base import FromBases
from castore.errors import CorruptError

_KEPT_BYTES = 8 * limits.MIB


class Buffers:
    """One thread's memory for bases; some of it is kept, since fresh pages cost more than what is done in them."""

    def __init__(self) -> None:
        self._free: list[bytearray] = []

    def take(self, size: int) -> bytearray:
        """A buffer of at least `size` bytes."""
        fitting = [number for number, buffer in enumerate(self._free) if len(buffer) >= size]
        if fitting:
            return self._free.pop(min(fitting, key=lambda number: len(self._free[number])))
        return bytearray(size)

    def give(self, buffer: bytearray) -> None:
        """Hand a buffer back, for the next one who needs as much."""
        self._free.append(buffer)
        while sum(map(len, self._free)) > _KEPT_BYTES:
            self._free.pop(0)


class Batch:
    """Decodes the records of a closure, each once, however many need it.

    A record that is wanted is decoded into the caller's memory, and read there by those whose base it is. A base that
    only one delta needs is decoded right where that delta goes, if its codec works in place. Any other base is held in
    a buffer until the last record that needs it is decoded.
    """

    def __init__(
        self,
        wanted: Mapping[bytes, memoryview],
        needed: Mapping[bytes, Place],
        order: Iterable[bytes],
        buffers: Buffers,
        checked: bool,
    ) -> None:
        """wanted: id -> where its bytes go. needed: the closure of these. order: its ids, bases first. checked: whether
        payloads are compared with their checksums."""
        self._wanted = wanted
        self._needed = needed
        self._memory = dict(wanted)
        self._buffers = buffers
        self._checked = checked
        self._lent: dict[bytes, bytearray] = {}
        self._lent_bytes = 0
        deltas = [one for one in order if needed[one].bases]
        self._users: dict[bytes, int] = {}
        for one in deltas:
            for base in needed[one].bases:
                self._users[base] = self._users.get(base, 0) + 1
        self._host: dict[bytes, bytes] = {}  # a base -> the record in whose memory it is decoded
        for one in reversed(deltas):
            base = needed[one].bases[0]
            if self._users[base] == 1 and base not in wanted and _works_in_place(needed[one]):
                self._host[base] = self._host.get(one, one)

    def decode(self, record_id: bytes, payload: memoryview) -> None:
        """Decode one record; its bases were decoded before it. Raises CorruptError, which does not name it."""
        place = self._needed[record_id]
        if self._checked and checksum(payload) != place.checksum:
            raise CorruptError("the checksum of its payload is wrong")
        codec = codecs.by_id(place.codec)
        if codec.is_delta != bool(place.bases):
            raise CorruptError(f"codec {codec.name} does not fit its bases")
        dtype = dtypes.by_code(place.dtype)
        host = self._host.get(record_id, record_id)
        out = self._memory.get(host)
        if out is None:
            out = self._lend(host, place.raw_length)
        if len(out) != place.raw_length:
            raise CorruptError(_LENGTHS)
        if place.bases and codec.takes_bases:
            bases = [self._memory[base].toreadonly() for base in place.bases]
            cast(FromBases, codec).decode_from(payload, dtype, out, bases)
        else:
            if place.bases:
                self._bring(place.bases, host, out)
            codec.decode(payload, dtype, out)
        for base in place.bases:
            self._users[base] -= 1
            if not self._users[base] and base in self._lent:
                self._end_loan(base)

    def _bring(self, bases: tuple[bytes, ...], host: bytes, out: memoryview) -> None:
        """See that `out` holds the bytes of the only base."""
        if len(bases) > 1:
            raise CorruptError("it has several bases, and a codec that takes one")
        if self._host.get(bases[0]) == host:
            return  # decoded there
        source = self._memory[bases[0]]
        if len(source) != len(out):
            raise CorruptError(_LENGTHS)
        out[:] = source

    def _lend(self, record_id: bytes, size: int) -> memoryview:
        self._lent_bytes += size
        if self._lent_bytes > limits.MAX_HELD_BYTES:
            raise CorruptError(f"its bases take more than {limits.MAX_HELD_BYTES} bytes at once")
        buffer = self._lent[record_id] = self._buffers.take(size)
        memory = self._memory[record_id] = memoryview(buffer)[:size]
        return memory

    def _end_loan(self, record_id: bytes) -> None:
        self._lent_bytes -= len(self._memory.pop(record_id))
        self._buffers.give(self._lent.pop(record_id))

    def named(self, record_id: bytes, problem: CorruptError) -> CorruptError:
        """The same problem, with the name of a wanted chunk that it keeps from being decoded."""
        if record_id in self._wanted:
            return CorruptError(f"chunk {record_id.hex()} cannot be decoded: {problem}")
        above = {record_id}
        while not above & self._wanted.keys():
            above |= {one for one, place in self._needed.items() if not above.isdisjoint(place.bases)}
        (chunk, *_) = above & self._wanted.keys()
        return CorruptError(f"chunk {chunk.hex()} cannot be decoded: its base {record_id.hex()}: {problem}")


_LENGTHS = "it and its base differ in length"


def _works_in_place(place: Place) -> bool:
    """Whether a record's codec turns the bytes of the one base into its own. An unknown codec is refused later."""
    if len(place.bases) != 1 or place.codec not in codecs.known_ids():
        return False
    codec = codecs.by_id(place.codec)
    return codec.is_delta and not codec.takes_bases
