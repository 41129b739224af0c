"""A reader of stores, written from docs/format.md alone: it shares no line with castore, and imports none of it.

It favours brevity over speed: it reads all footers when it opens a store, and decodes one chunk at a time.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import cbor2
import numpy as np
import xxhash
from independent_codecs import check, decode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHUNK, TREE, COMMIT, CHUNK_LIST, PROVENANCE = 1, 2, 3, 4, 5
FLOAT, TENSOR, VIEW, SHARED, COMPOUND, MAP, SEQUENCE, FILE, DIRECTORY = range(1, 10)
HASHES = {"xxh3-128": (16, xxhash.xxh3_128_digest), "blake3": (32, lambda data: blake3.blake3(data).digest())}
WIDTHS = {"bytes": 1, "uint8": 1, "int8": 1, "bool": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8}
WIDTHS |= {"int64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8}
WIDTHS |= {"complex128": 16, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1}
WIDTHS |= {"float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1}


@dataclass(frozen=True)
class Record:
    pack: bytes  # the whole file
    id: bytes
    bases: list[bytes]
    offset: int
    length: int
    raw_length: int
    checksum: int
    kind: int
    codec: int
    dtype: int


@dataclass(frozen=True)
class Leaf:
    """A tensor, view, or segment of a file, with its bytes in C order."""

    path: tuple[str, ...]
    kind: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes


def read_entry(data: bytes, at: int, version: int, size: int) -> tuple[list[bytes], tuple[int, ...], int]:
    """Id and bases, the numbers, and where the entry ends."""
    if version == 1:
        check(len(data) >= at + 2 * size + 28, "entry cut off")
        record_id, base, *numbers = struct.unpack_from(f"<{size}s{size}sQIIQBBBB", data, at)
        return [record_id, base] if any(base) else [record_id], tuple(numbers), at + 2 * size + 28
    check(len(data) >= at + size + 29, "entry cut off")
    record_id, *numbers, count = struct.unpack_from(f"<{size}sQIIQBBBBB", data, at)
    at += size + 29
    check(count <= 4 and len(data) >= at + count * size, "bases")
    bases = [data[at + k * size : at + (k + 1) * size] for k in range(count)]
    return [record_id, *bases], tuple(numbers), at + count * size


def read_pack(data: bytes, name: str, hash_name: str) -> list[Record]:
    """The records of a pack; `name`: its file's, without `.pack`."""
    size, digest = HASHES[hash_name]
    version = int.from_bytes(data[8:10], "little")
    check(version in (1, 2) and data[:16] == struct.pack("<8sHB5x", b"CASTPACK", version, size), "header")
    offset, count, again, footer_hash, magic = struct.unpack(f"<QII{size}s8s", data[-24 - size :])
    check(magic == b"KCAPTSAC" and again == version and 16 <= offset <= len(data) - size - 24, "trailer")
    footer = data[offset : -24 - size]
    check(digest(footer) == footer_hash and footer_hash.hex() == name, "footer hash")
    records, end = [], 0
    for _ in range(count):
        at = end
        (record_id, *bases), numbers, end = read_entry(footer, at, version, size)
        record = Record(data, record_id, bases, *numbers[:7])
        start = record.offset - 4 - (end - at)
        check(record.kind in (1, 2, 3, 4, 5), "kind")
        check(start >= 16 and record.offset + record.length <= offset, "place")
        check(record.raw_length <= 16 << 20 or (record.kind != CHUNK and record.raw_length <= 64 << 20), "raw length")
        check(data[start : start + 4] == (b"CREC" if version == 1 else b"CRE2"), "record magic")
        check(data[start + 4 : record.offset] == footer[at:end], "entry")
        records.append(record)
    check(end == len(footer), "size of the footer")
    return records


class IndependentReader:
    def __init__(self, root: Path) -> None:
        self.root = root
        config = tomllib.loads((root / "castore.toml").read_text("utf-8"))
        check(config["format_version"] == 1, "format version")
        known = {"packs-2", "provenance", "retention", "tiers", "checks", "rans", "no-signs", "low-rank"}
        check(set(config.get("required_features", [])) <= known, "required features")
        self.hash = config.get("hash", "xxh3-128")
        self.id_bytes, self.digest = HASHES[self.hash]
        self.objects_read = 0
        self.records: dict[bytes, Record] = {}
        found = []
        for path in sorted((root / "packs").glob("??/*.pack")):
            found += read_pack(path.read_bytes(), path.stem, self.hash)
        while found:  # a record is taken when all its bases are taken: there is no circle
            left = []
            for record in found:
                if not self.records.keys() >= set(record.bases):
                    left.append(record)
                else:
                    self.records.setdefault(record.id, record)
            if len(left) == len(found):
                break
            found = left

    def raw(self, record_id: bytes) -> bytes:
        record = self.records[record_id]
        payload = record.pack[record.offset : record.offset + record.length]
        check(xxhash.xxh3_64_intdigest(payload) == record.checksum, "checksum")
        bases = [self.raw(base) for base in record.bases]
        raw = decode(record.codec, record.dtype, payload, record.raw_length, bases)
        check(self.digest(raw) == record_id, "id")
        return raw

    def depth(self, record_id: bytes) -> int:
        return max((1 + self.depth(base) for base in self.records[record_id].bases), default=0)

    def object(self, record_id: bytes, kind: int) -> bytes:
        self.objects_read += 1
        check(self.records[record_id].kind == kind, "kind of an object")
        return self.raw(record_id)

    def ref(self, name: str) -> str:
        """The commit of "HEAD", "refs/heads/NAME" or "refs/tags/NAME"."""
        text = (self.root / name).read_text("utf-8").removesuffix("\n")
        return self.ref(text.removeprefix("ref: ")) if text.startswith("ref: ") else text

    def commit(self, commit_id: str) -> dict[str, Any]:
        return cbor2.loads(self.object(bytes.fromhex(commit_id), COMMIT))

    def provenance(self, commit_id: str) -> dict[str, dict[str, str]] | None:
        """What produced a commit, by section and name."""
        found = self.commit(commit_id).get("provenance")
        return None if found is None else cbor2.loads(self.object(found, PROVENANCE))

    def tree(self, tree_id: bytes) -> Any:
        """The root node, as CBOR has it."""
        return cbor2.loads(self.object(tree_id, TREE))

    def items(self, items: Any) -> list[Any]:
        """A container's items, out of its segments if it has any."""
        if not isinstance(items, bytes):
            return items
        ids = [items[at : at + self.id_bytes] for at in range(0, len(items), self.id_bytes)]
        return [item for one in ids for item in cbor2.loads(self.object(one, TREE))]

    def chunk_ids(self, chunks: Any) -> list[bytes]:
        data = chunks if isinstance(chunks, bytes) else self.object(chunks[0], CHUNK_LIST)
        return [data[at : at + self.id_bytes] for at in range(0, len(data), self.id_bytes)]

    def tensor(self, node: list[Any] | bytes) -> bytes:
        """The data of a tensor node, or of a segment of a file that lies in the tree itself."""
        if isinstance(node, bytes):
            return node
        _, _, dtype, shape, _, _, chunks = node
        data = b"".join(self.raw(one) for one in self.chunk_ids(chunks))
        check(len(data) == int(np.prod(shape, dtype=object)) * WIDTHS[dtype], "size of a tensor")
        return data

    def leaves(self, node: Any, path: tuple[str, ...] = (), shared: dict[int, bytes] | None = None) -> Iterator[Leaf]:
        """Every tensor, view and segment of a file, in the order of the tree."""
        shared = {} if shared is None else shared
        if not isinstance(node, list):
            return
        kind, rest = node[0], node[1:]
        if kind == TENSOR:
            yield Leaf(path, rest[0], rest[1], tuple(rest[2]), self.tensor(node))
        elif kind == SHARED:
            shared[rest[0]] = self.tensor(rest[1])
            yield from self.leaves(rest[2], path, shared)
        elif kind == VIEW:
            yield Leaf(path, rest[1], rest[2], tuple(rest[3]), look(shared[rest[0]], *rest[2:6]))
        elif kind == COMPOUND:
            for number, part in enumerate(rest[1]):
                yield from self.leaves(part, (*path, str(number)), shared)
        elif kind == SEQUENCE:
            for number, item in enumerate(self.items(rest[1])):
                yield from self.leaves(item, (*path, str(number)), shared)
        elif kind in (MAP, FILE, DIRECTORY):
            flat = self.items(rest[-1])
            for key, item in zip(flat[::2], flat[1::2], strict=True):
                below = key if kind == FILE else [str(key)]
                yield from self.leaves(item, (*path, *below), shared)
        else:
            check(kind == FLOAT and len(rest[0]) == 8, "type of a node")


def look(memory: bytes, dtype: str, shape: list[int], stride: list[int], offset: int) -> bytes:
    """What a view sees, in C order."""
    width = WIDTHS[dtype]
    reach = sum((size - 1) * step for size, step in zip(shape, stride, strict=True)) + 1
    check(offset % width == 0 and (0 in shape or offset + reach * width <= len(memory)), "a view beyond its memory")
    if 0 in shape:
        return b""
    at = np.zeros((), np.int64)
    for size, step in zip(shape, stride, strict=True):
        at = at[..., None] + np.arange(size) * step
    elements = np.frombuffer(memory[offset : offset + reach * width], np.dtype((np.void, width)))
    return elements[at].tobytes()
