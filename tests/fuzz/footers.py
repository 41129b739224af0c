"""Footers and trailers of both versions, and records that are found without them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from castore import limits
from castore.chunks import hashing, pack
from castore.chunks.hashing import checksum
from castore.chunks.reader import PackFiles
from castore.chunks.salvage import good_records, intact_records
from castore.chunks.writer import pack_path
from castore.errors import CorruptError
from tests.fuzz.mutations import LARGE, NUMBERS, mutated_bytes
from tests.fuzz.target import MIB, Target

HASH = hashing.by_name("xxh3-128")
FORMATS = pack.formats(HASH.size)
Record = tuple[pack.Entry, bytes]


def assembled(fmt: pack.Format, records: Sequence[Record], rng: Random | None = None) -> bytes:
    """A pack of records, each checksum and hash right; with a generator some places are not."""
    data, entries = bytearray(fmt.header), []
    for entry, payload in records:
        offset = len(data) + fmt.record_header_bytes(len(entry.bases))
        placed = replace(entry, offset=offset, length=len(payload), checksum=checksum(payload))
        data += fmt.record_header(placed) + payload
        entries.append(placed)
    if rng is not None and entries and rng.random() < 0.3:
        at = rng.randrange(len(entries))
        field = rng.choice(("offset", "length", "raw_length"))
        most = (1 << 64) - 1 if field == "offset" else (1 << 32) - 1
        near = getattr(entries[at], field) + rng.choice((-1, 1, 16))
        entries[at] = replace(entries[at], **{field: max(0, rng.choice((near, *NUMBERS, *LARGE)) & most)})
        if rng.random() < 0.3:
            rng.shuffle(entries)
    footer = fmt.footer(entries)
    count = len(entries) if rng is None or rng.random() < 0.95 else rng.choice(NUMBERS)
    trailer = pack.Trailer(len(data), count, HASH.digest(footer))
    return bytes(data) + footer + fmt.trailer(trailer)


def disassembled(data: bytes) -> tuple[pack.Format, list[Record]] | None:
    """The records of a pack whose footer can be read."""
    try:
        fmt = pack.format_of(data[: pack.HEADER_BYTES], FORMATS)
        trailer = fmt.parse_trailer(data[-fmt.trailer_bytes :], len(data))
        footer = data[trailer.footer_offset : len(data) - fmt.trailer_bytes]
        entries = fmt.parse_footer(footer, trailer.count, trailer.footer_offset)
    except CorruptError:
        return None
    return fmt, [(entry, data[entry.offset : entry.offset + entry.length]) for entry in entries]


def mutated_entry(entry: pack.Entry, ids: Sequence[bytes], rng: Random, most_bases: int) -> pack.Entry:
    how = rng.randrange(6)
    if how == 0:
        bases = tuple(rng.choice(ids) for _ in range(rng.choice((0, 1, 1, 2, 3, 4))))
        return replace(entry, bases=bases[:most_bases])
    if how == 1:
        return replace(entry, codec=rng.choice((*range(10), 255)))
    if how == 2:
        return replace(entry, dtype=rng.choice((0, 1, 7, 9, 16, 17, 18, 19, 26, 32, 255)))
    if how == 3:
        return replace(entry, kind=rng.choice((0, 1, 2, 3, 4, 5, 6, 255)))
    if how == 4:
        raw = rng.choice((*NUMBERS, entry.raw_length + 1, max(0, entry.raw_length - 1), 16 * MIB, 64 * MIB))
        return replace(entry, raw_length=raw & 0xFFFFFFFF)
    return replace(entry, id=rng.choice(ids))


@dataclass(frozen=True)
class FooterTarget:
    """An input is a pack; its records need not be any."""

    root: Path
    growth_bytes: int = 192 * MIB
    mapped_bytes: int = 0

    def seeds(self) -> Sequence[bytes]:
        one, two = HASH.digest(b"one"), HASH.digest(b"two")
        records = [
            (pack.Entry(one, (), 0, 3, 3, 0, pack.CHUNK, 0, 0, 0), b"one"),
            (pack.Entry(two, (one,), 0, 3, 3, 0, pack.CHUNK, 3, 1, 4), b"two"),
            (pack.Entry(HASH.digest(b"tree"), (), 0, 4, 4, 0, pack.TREE, 1, 0, 0), b"tree"),
        ]
        several = [(replace(entry, bases=(one,) * number), data) for number, (entry, data) in enumerate(records)]
        return [assembled(FORMATS[0], records), assembled(FORMATS[0], several), assembled(FORMATS[1], records)]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        found = disassembled(data)
        if found is None or not found[1] or rng.random() < 0.4:
            return mutated_bytes(data, rng)
        fmt, records = found
        most_bases = 1 if fmt.version == 1 else limits.MAX_BASES
        ids = [entry.id for entry, _ in records] + [bytes(16), rng.randbytes(16)]
        at = rng.randrange(len(records))
        records[at] = mutated_entry(records[at][0], ids, rng, most_bases), mutated_bytes(records[at][1], rng)
        return assembled(fmt, records, rng)

    def run(self, data: bytes) -> bool:
        pack_id = data[-24:-8] if len(data) >= 24 else bytes(16)
        path = pack_path(self.root, pack_id)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        try:
            return self._read(data, pack_id)
        finally:
            path.unlink()

    def _read(self, data: bytes, pack_id: bytes) -> bool:
        files = PackFiles(self.root, HASH)
        for found in (intact_records(files, pack_id), good_records(files, pack_id)):
            for entry, payload in found:
                assert data[entry.offset : entry.offset + entry.length] == payload, "bytes of another place"
                assert checksum(payload) == entry.checksum
        taken = False
        with suppress(CorruptError):
            entries = files.footer(pack_id)
            fmt = files.format_of(pack_id)
            footer = fmt.footer(entries)
            assert data.endswith(footer + data[-fmt.trailer_bytes :]), "not what stands there"
            for entry in entries:
                assert entry.kind in pack.KINDS and entry.length <= limits.MAX_PAYLOAD_BYTES
                assert pack.HEADER_BYTES < entry.offset <= len(data) - entry.length - len(footer) - fmt.trailer_bytes
            taken = True
        return taken


def target(name: str) -> Target:
    return FooterTarget(Path(tempfile.mkdtemp(prefix="castore-fuzz-")))
