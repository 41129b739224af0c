"""The pack format, byte for byte; docs/format.md says the same in words. Pure: bytes in, values out.

    header   magic "CASTPACK", version u16, hash size u8, 5 zero bytes                             16 bytes
    record   magic "CREC", entry, payload                                                          ...
    footer   one entry per record                                                                  2H + 28 each
    trailer  footer offset u64, entry count u32, version u32, footer hash H bytes, "KCAPTSAC"      24 + H bytes

H is the size of the store's hash. The file's name is the footer hash in hex: a pack names its own content. The entry
before each payload repeats the footer's, so that a pack whose footer is damaged can still be read record by record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from castore import limits
from castore.errors import CorruptError

VERSION = 1
MAGIC = b"CASTPACK"
END_MAGIC = b"KCAPTSAC"
RECORD_MAGIC = b"CREC"
HEADER_BYTES = 16

CHUNK = 1  # data of a tensor or a file
TREE = 2  # a node of a tree
COMMIT = 3
CHUNK_LIST = 4  # the chunk ids of one long tensor
KINDS = (CHUNK, TREE, COMMIT, CHUNK_LIST)


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a record lies and how to decode it.

    base: the id of the chunk that a delta needs, b"" for a standalone record. offset: of the payload, in the pack.
    length: of the payload. raw_length: decoded. checksum: XXH3-64 of the payload. codec, dtype: codes.
    generation: how many commits a delta reaches back, by its writer's count; of a standalone record, how many more
    commits will not try a delta on it. Only writers need it.
    """

    id: bytes
    base: bytes
    offset: int
    length: int
    raw_length: int
    checksum: int
    kind: int
    codec: int
    dtype: int
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Trailer:
    footer_offset: int
    count: int
    footer_hash: bytes


class Format:
    """The format for one hash size."""

    def __init__(self, hash_size: int) -> None:
        self.hash_size = hash_size
        self._entry = struct.Struct(f"<{hash_size}s{hash_size}sQIIQBBBB")
        self._trailer = struct.Struct(f"<QII{hash_size}s8s")
        self._no_base = bytes(hash_size)
        self.entry_bytes = self._entry.size
        self.record_header_bytes = len(RECORD_MAGIC) + self.entry_bytes
        self.trailer_bytes = self._trailer.size
        self.header = struct.pack("<8sHB5x", MAGIC, VERSION, hash_size)

    def pack_entry(self, entry: Entry) -> bytes:
        e = entry
        return self._entry.pack(
            e.id,
            e.base or self._no_base,
            e.offset,
            e.length,
            e.raw_length,
            e.checksum,
            e.kind,
            e.codec,
            e.dtype,
            e.generation,
        )

    def record_header(self, entry: Entry) -> bytes:
        return RECORD_MAGIC + self.pack_entry(entry)

    def footer(self, entries: Iterable[Entry]) -> bytes:
        return b"".join(map(self.pack_entry, entries))

    def trailer(self, trailer: Trailer) -> bytes:
        return self._trailer.pack(trailer.footer_offset, trailer.count, VERSION, trailer.footer_hash, END_MAGIC)

    def parse_header(self, data: bytes) -> None:
        """Check a pack's first bytes. Raises CorruptError."""
        if data[:8] == MAGIC and data[8:10] != self.header[8:10]:
            version = int.from_bytes(data[8:10], "little")
            raise CorruptError(
                f"pack format version {version}, this castore reads {VERSION}: upgrade castore, or the pack is damaged"
            )
        if data != self.header:
            raise CorruptError("not a pack of this store: its header is wrong")

    def parse_trailer(self, data: bytes, file_bytes: int) -> Trailer:
        """Read a pack's last `trailer_bytes`, checked against the file's size. Raises CorruptError."""
        if len(data) != self.trailer_bytes or data[-8:] != END_MAGIC:
            raise CorruptError("the pack is truncated: it does not end in a trailer")
        offset, count, version, footer_hash, _ = self._trailer.unpack(data)
        if version != VERSION:
            raise CorruptError("the pack's trailer is damaged: wrong version")
        if count > limits.MAX_PACK_RECORDS:
            raise CorruptError(f"the pack's trailer is damaged: it claims {count} records")
        if offset < HEADER_BYTES or offset + count * self.entry_bytes + self.trailer_bytes != file_bytes:
            raise CorruptError("the pack's trailer is damaged: it does not fit the size of the file")
        return Trailer(offset, count, footer_hash)

    def parse_entry(self, data: bytes, footer_offset: int) -> Entry:
        """Read one entry, each field checked against what is possible in its pack. Raises CorruptError."""
        return self._checked(self._entry.unpack(data), footer_offset)

    def parse_footer(self, data: bytes, footer_offset: int) -> list[Entry]:
        """Read the footer's entries. Raises CorruptError."""
        return [self._checked(fields, footer_offset) for fields in self._entry.iter_unpack(data)]

    def _checked(self, fields: tuple[bytes, bytes, int, int, int, int, int, int, int, int], end: int) -> Entry:
        id_, base, offset, length, raw_length, checksum, kind, codec, dtype, generation = fields
        if kind not in KINDS:
            raise CorruptError(f"record {id_.hex()} is of an unknown kind: damaged, or a newer castore wrote it")
        bound = limits.MAX_CHUNK_BYTES if kind == CHUNK else limits.MAX_OBJECT_BYTES
        if raw_length > bound or length > limits.MAX_PAYLOAD_BYTES:
            raise CorruptError(f"record {id_.hex()} claims {raw_length} bytes, more than a record may have")
        if offset < HEADER_BYTES + self.record_header_bytes or offset + length > end:
            raise CorruptError(f"record {id_.hex()} lies outside its pack")
        if base == self._no_base:
            base = b""
        return Entry(id_, base, offset, length, raw_length, checksum, kind, codec, dtype, generation)
