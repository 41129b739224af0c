"""The pack format, byte for byte; docs/format.md says the same in words. Pure: bytes in, values out.

    header   magic "CASTPACK", version u16, hash size u8, 5 zero bytes                             16 bytes
    record   magic "CRE2", entry, payload                                                          ...
    footer   one entry per record                                                                  ...
    entry    id, place, codec ..., number of bases, and their ids                                  H + 29 + H each
    trailer  footer offset u64, entry count u32, version u32, footer hash H bytes, "KCAPTSAC"      24 + H bytes

H is the size of the store's hash. The file's name is the footer hash in hex: a pack names its own content. The entry
before each payload repeats the footer's, so that a pack whose footer is damaged can still be read record by record.
Ahead of a record there may be zeros, less than two pages of 4096 bytes, so that its payload begins with a page: such a
payload can be written past the page cache from where it lies.

Packs are written in version 2. Those of version 1, whose entries have all the same size, with room for one base, are
read for ever. The magic of a record differs, so that each can be read though the header of its pack is damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from castore import limits
from castore.errors import CorruptError

MAGIC = b"CASTPACK"
END_MAGIC = b"KCAPTSAC"
HEADER_BYTES = 16
RECORD_MAGIC_BYTES = 4

CHUNK = 1  # data of a tensor or a file
TREE = 2  # a node of a tree
COMMIT = 3
CHUNK_LIST = 4  # the chunk ids of one long tensor
PROVENANCE = 5  # what produced a commit
KINDS = (CHUNK, TREE, COMMIT, CHUNK_LIST, PROVENANCE)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a record lies and how to decode it.

    bases: the ids of the chunks that a delta needs, () for a standalone record. offset: of the payload, in the pack.
    length: of the payload. raw_length: decoded. checksum: XXH3-64 of the payload. codec, dtype: codes.
    generation: how many commits a delta reaches back, by its writer's count; of a standalone record, how many more
    commits will not try a delta on it. Only writers need it.
    """

    id: bytes
    bases: tuple[bytes, ...]
    offset: int
    length: int
    raw_length: int
    checksum: int
    kind: int
    codec: int
    dtype: int
    generation: int = 0

    def at(self, offset: int) -> Entry:
        """The same record, somewhere else: `dataclasses.replace` takes four times as long, for every record."""
        e = self
        return Entry(e.id, e.bases, offset, e.length, e.raw_length, e.checksum, e.kind, e.codec, e.dtype, e.generation)


@dataclass(frozen=True, slots=True)
class Trailer:
    footer_offset: int
    count: int
    footer_hash: bytes


class Format:
    """The format of version 2, which is written, for one hash size."""

    version = 2
    record_magic = b"CRE2"

    def __init__(self, hash_size: int) -> None:
        self.hash_size = hash_size
        self._entry = struct.Struct(self._entry_layout(hash_size))
        self._trailer = struct.Struct(f"<QII{hash_size}s8s")
        self.least_entry_bytes = self._entry.size
        self.most_entry_bytes = self._entry.size + limits.MAX_BASES * hash_size
        self.trailer_bytes = self._trailer.size
        self.header = struct.pack("<8sHB5x", MAGIC, self.version, hash_size)

    def _entry_layout(self, hash_size: int) -> str:
        return f"<{hash_size}sQIIQBBBBB"

    def entry_bytes(self, bases: int) -> int:
        """The size of an entry with so many bases."""
        return self._entry.size + bases * self.hash_size

    def record_header_bytes(self, bases: int) -> int:
        """What lies before the payload of a record with so many bases."""
        return RECORD_MAGIC_BYTES + self.entry_bytes(bases)

    def pack_entry(self, entry: Entry) -> bytes:
        e = entry
        if len(e.bases) > limits.MAX_BASES:
            raise ValueError(f"a record has at most {limits.MAX_BASES} bases, not {len(e.bases)}")
        numbers = (e.offset, e.length, e.raw_length, e.checksum, e.kind, e.codec, e.dtype, e.generation)
        return b"".join((self._entry.pack(e.id, *numbers, len(e.bases)), *e.bases))

    def record_header(self, entry: Entry) -> bytes:
        return self.record_magic + self.pack_entry(entry)

    def footer(self, entries: Iterable[Entry]) -> bytes:
        return b"".join(map(self.pack_entry, entries))

    def trailer(self, trailer: Trailer) -> bytes:
        return self._trailer.pack(trailer.footer_offset, trailer.count, self.version, trailer.footer_hash, END_MAGIC)

    def parse_trailer(self, data: bytes, file_bytes: int) -> Trailer:
        """Read a pack's last `trailer_bytes`, checked against the file's size. Raises CorruptError."""
        if len(data) != self.trailer_bytes or data[-8:] != END_MAGIC:
            raise CorruptError("the pack is truncated: it does not end in a trailer")
        offset, count, version, footer_hash, _ = self._trailer.unpack(data)
        if version != self.version:
            raise CorruptError("the pack's trailer is damaged: wrong version")
        if count > limits.MAX_PACK_RECORDS:
            raise CorruptError(f"the pack's trailer is damaged: it claims {count} records")
        footer_bytes = file_bytes - self.trailer_bytes - offset
        fits = count * self.least_entry_bytes <= footer_bytes <= count * self.most_entry_bytes
        if offset < HEADER_BYTES or not fits:
            raise CorruptError("the pack's trailer is damaged: it does not fit the size of the file")
        return Trailer(offset, count, footer_hash)

    def parse_footer(self, data: bytes, count: int, footer_offset: int) -> list[Entry]:
        """Read the footer's `count` entries, which `data` must hold and nothing else. Raises CorruptError."""
        entries, at = [], 0
        for _ in range(count):
            entry, at = self.parse_entry(data, at, footer_offset)
            entries.append(entry)
        if at != len(data):
            raise CorruptError(f"the pack's footer is damaged: {len(data) - at} bytes follow its entries")
        return entries

    def parse_entry(self, data: bytes, at: int, footer_offset: int) -> tuple[Entry, int]:
        """The entry at `at`, each field checked against what is possible in its pack, and where the next one would be.

        Raises CorruptError.
        """
        if len(data) - at < self._entry.size:
            raise CorruptError("the pack is damaged: it ends within an entry")
        entry, end = self._entry_at(data, at)
        if entry.kind not in KINDS:
            raise CorruptError(f"record {entry.id.hex()} is of an unknown kind: damaged, or a newer castore wrote it")
        bound = limits.MAX_CHUNK_BYTES if entry.kind == CHUNK else limits.MAX_OBJECT_BYTES
        if entry.raw_length > bound or entry.length > limits.MAX_PAYLOAD_BYTES:
            raise CorruptError(f"record {entry.id.hex()} claims {entry.raw_length} bytes, more than a record may have")
        first = HEADER_BYTES + RECORD_MAGIC_BYTES + end - at
        if entry.offset < first or entry.offset + entry.length > footer_offset:
            raise CorruptError(f"record {entry.id.hex()} lies outside its pack")
        return entry, end

    def _entry_at(self, data: bytes, at: int) -> tuple[Entry, int]:
        id_, *numbers, count = self._entry.unpack_from(data, at)
        at += self._entry.size
        end = at + count * self.hash_size
        if count > limits.MAX_BASES or end > len(data):
            raise CorruptError(f"record {id_.hex()} claims {count} bases, more than it may have or there is room for")
        return Entry(id_, tuple([data[i : i + self.hash_size] for i in range(at, end, self.hash_size)]), *numbers), end


class FormatV1(Format):
    """The format of version 1: id, base, and then what version 2 has, but for the number of bases."""

    version = 1
    record_magic = b"CREC"

    def __init__(self, hash_size: int) -> None:
        super().__init__(hash_size)
        self.most_entry_bytes = self.least_entry_bytes

    def _entry_layout(self, hash_size: int) -> str:
        return f"<{hash_size}s{hash_size}sQIIQBBBB"

    def entry_bytes(self, bases: int) -> int:
        return self._entry.size

    def pack_entry(self, entry: Entry) -> bytes:
        e = entry
        (base,) = e.bases or (bytes(self.hash_size),)  # raises ValueError for several
        return self._entry.pack(
            *(e.id, base, e.offset, e.length, e.raw_length, e.checksum, e.kind, e.codec, e.dtype, e.generation)
        )

    def _entry_at(self, data: bytes, at: int) -> tuple[Entry, int]:
        id_, base, *numbers = self._entry.unpack_from(data, at)
        return Entry(id_, (base,) if any(base) else (), *numbers), at + self._entry.size


def formats(hash_size: int) -> tuple[Format, ...]:
    """Every format that this castore reads; the first is the one that it writes."""
    return Format(hash_size), FormatV1(hash_size)


def format_of(header: bytes, known: Iterable[Format]) -> Format:
    """The format of a pack, by its first bytes. Raises CorruptError for one that is not among `known`."""
    for one in known:
        if header == one.header:
            return one
    if header[:8] == MAGIC and (version := int.from_bytes(header[8:10], "little")) not in [
        one.version for one in known
    ]:
        raise CorruptError(
            f"pack format version {version}, which this castore cannot read: upgrade it, or it is damaged"
        )
    raise CorruptError("not a pack of this store: its header is wrong")
