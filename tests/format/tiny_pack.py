"""The pack that docs/format.md shows in hex, made by castore's own code."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from castore import codecs, dtypes
from castore.chunks import hashing, pack
from castore.chunks.hashing import checksum
from castore.chunks.writer import PackWriter
from castore.objects import codec, nodes
from castore.objects.commit import Commit, CommitStats, ComponentStats
from castore.objects.tree import TreeWriter


@dataclass(frozen=True, slots=True)
class TinyPack:
    data: bytes
    id: bytes
    records: dict[bytes, bytes]  # id -> raw bytes, in the order of the pack


def tiny_pack(incoming: Path) -> TinyPack:
    """A chunk, a delta on it, the tree {"w": tensor} over the delta, and its commit, in a store with XXH3-128."""
    hash_ = hashing.by_name("xxh3-128")
    float32 = dtypes.by_name("float32")
    writer = PackWriter(incoming, hash_)
    records: dict[bytes, bytes] = {}

    def put(kind: int, raw: bytes, codec_id: int = codecs.RAW, base: bytes = b"") -> bytes:
        dtype = float32 if kind == pack.CHUNK else dtypes.BYTES
        payload = bytes(codecs.by_id(codec_id).encode(raw, dtype, records.get(base)))
        record_id = hash_.digest(raw)
        bases = (base,) if base else ()
        entry = pack.Entry(record_id, bases, 0, len(payload), len(raw), checksum(payload), kind, codec_id, dtype.code)
        writer.append(entry, payload)
        records[record_id] = raw
        return record_id

    first = put(pack.CHUNK, struct.pack("<2f", 1.0, -2.0))
    second = put(pack.CHUNK, struct.pack("<2f", 1.0 + 2.0**-23, -2.0), codecs.SUB_PLANES, first)
    tensor = nodes.Tensor("tensor", "float32", (2,), chunks=second)
    tree = TreeWriter(put).write(nodes.Map("dict", [(nodes.Value("w"), tensor)]))
    commit = Commit(
        id="",
        tree=tree.hex(),
        parents=(),
        message="tiny",
        step=7,
        metrics={"loss": 2.5},
        author="ada@host",
        time=datetime(2025, 1, 2, 3, 4, 5, 6, timezone(timedelta(hours=1))),
        environment={"python": "3.12.3"},
        meta={},
        tier=None,
        stats=CommitStats(components={"w": ComponentStats(8, 8, 25, 25, 1)}),
    )
    put(pack.COMMIT, codec.encode(commit))
    sealed = writer.seal()
    writer.close()
    return TinyPack(sealed.path.read_bytes(), sealed.id, records)
