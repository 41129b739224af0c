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
import lz4.block
import numpy as np
import xxhash
import zstandard

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHUNK, TREE, COMMIT, CHUNK_LIST = 1, 2, 3, 4
FLOAT, TENSOR, VIEW, SHARED, COMPOUND, MAP, SEQUENCE, FILE, DIRECTORY = range(1, 10)
HASHES = {"xxh3-128": (16, xxhash.xxh3_128_digest), "blake3": (32, lambda data: blake3.blake3(data).digest())}
WORDS = {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 4, 8: 8, 9: 8, 16: 2, 17: 2, 18: 4, 19: 8, 24: 2, 25: 4, 26: 8}
WORDS |= dict.fromkeys(range(32, 38), 1)
MANTISSAS = {16: 10, 17: 7, 18: 23, 24: 10, 25: 23}  # of the dtypes that codec 5 takes
ROTATED = {16, 17, 18, 19, 24, 25, 26}  # floats with a word of 2 bytes and more
WIDTHS = {"bytes": 1, "uint8": 1, "int8": 1, "bool": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8}
WIDTHS |= {"int64": 8, "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8}
WIDTHS |= {"complex128": 16, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1}
WIDTHS |= {"float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1}


class FormatError(Exception):
    """The store breaks a rule of the page."""


def check(condition: bool, rule: str) -> None:
    if not condition:
        raise FormatError(rule)


@dataclass(frozen=True)
class Record:
    pack: bytes  # the whole file
    id: bytes
    base: bytes  # b"" for none
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


def read_pack(data: bytes, name: str, hash_name: str) -> list[Record]:
    """The records of a pack; `name`: its file's, without `.pack`."""
    size, digest = HASHES[hash_name]
    check(data[:16] == struct.pack("<8sHB5x", b"CASTPACK", 1, size), "header")
    offset, count, version, footer_hash, magic = struct.unpack(f"<QII{size}s8s", data[-24 - size :])
    check(magic == b"KCAPTSAC" and version == 1, "trailer")
    check(offset >= 16 and offset + count * (2 * size + 28) + size + 24 == len(data), "size")
    footer = data[offset : -24 - size]
    check(digest(footer) == footer_hash and footer_hash.hex() == name, "footer hash")
    records = []
    for fields in struct.iter_unpack(f"<{size}s{size}sQIIQBBBB", footer):
        base = fields[1] if any(fields[1]) else b""
        record = Record(data, fields[0], base, *fields[2:9])
        start = record.offset - 4 - (2 * size + 28)
        check(record.kind in (1, 2, 3, 4), "kind")
        check(start >= 16 and record.offset + record.length <= offset, "place")
        check(record.raw_length <= 16 << 20 or (record.kind != CHUNK and record.raw_length <= 64 << 20), "raw length")
        check(data[start : start + 4] == b"CREC", "record magic")
        check(data[start + 4 : record.offset] == footer[len(records) * (2 * size + 28) :][: 2 * size + 28], "entry")
        records.append(record)
    return records


def unzstd(frame: bytes, size: int) -> bytes:
    form = zstandard.FORMAT_ZSTD1_MAGICLESS
    header = zstandard.get_frame_parameters(frame, format=form)
    check(header.content_size == size and not header.has_checksum and not header.dict_id, "zstd frame")
    return zstandard.ZstdDecompressor(format=form).decompress(frame, allow_extra_data=False)


def read_planes(payload: bytes, word: int, count: int) -> np.ndarray:
    """The transformed words of a payload of byte planes."""
    words = np.zeros(count, f"<u{word}")
    at = 0
    for plane in range(word):
        method, length = struct.unpack_from("<BI", payload, at)
        data = payload[at + 5 : at + 5 + length]
        at += 5 + length
        check(len(data) == length and method <= 3 and (count > 0 or (method, length) == (0, 0)), "plane")
        if method == 1:
            check(length == 1, "constant plane")
            data = data * count
        elif method == 2:
            data = lz4.block.decompress(data, uncompressed_size=count)
        elif method == 3:
            data = unzstd(data, count)
        check(len(data) == count, "plane length")
        words |= np.frombuffer(data, np.uint8).astype(words.dtype) << words.dtype.type(8 * plane)
    check(at == len(payload), "bytes after the planes")
    return words


def residual_table(frequencies: list[int]) -> list[tuple[int, int, int]]:
    """(token, number of bits, next state less those bits) of each state."""
    tokens, p = [0] * 1024, 0
    for token, frequency in enumerate(frequencies):
        for _ in range(frequency):
            tokens[p] = token
            p = (p + 643) % 1024
    counters, table = list(frequencies), []
    for token in tokens:
        x = counters[token]
        counters[token] += 1
        bits = 11 - x.bit_length()
        table.append((token, bits, (x << bits) - 1024))
    return table


def read_residual(payload: bytes, dtype: int, base: bytes) -> bytes:
    """The raw bytes of a payload of codec 5."""
    check(dtype in MANTISSAS and len(base) % WORDS[dtype] == 0 and len(payload) >= 26, "residual record")
    word, mantissa, words = WORDS[dtype], MANTISSAS[dtype], np.frombuffer(base, f"<u{WORDS[dtype]}").copy()
    top, t, r, mask, b, *states = struct.unpack("<HBBHI8H", payload[:26])
    blocks, used = len(words) // 256, [k for k in range(16) if mask >> k & 1]
    bitmap_at = 26 + 2 * t * len(used)
    tail_at = bitmap_at + -(-blocks // 8)
    stream = payload[tail_at + r * word :]
    check(1 <= t <= 8 * word + 1 and r == len(words) % 256 and top < 1 << (8 * word - 1 - mantissa), "residual header")
    check(len(payload) == tail_at + r * word + -(-b // 8) + 8 and max(states) < 1024, "residual length, states")
    tables = [residual_table([1024 // t + (token < 1024 % t) for token in range(t)])] * 16
    for number, k in enumerate(used):
        frequencies = struct.unpack_from(f"<{t}H", payload, 26 + 2 * t * number)
        check(min(frequencies) >= 1 and sum(frequencies) == 1024, "residual frequencies")
        tables[k] = residual_table(list(frequencies))
    coded = [k for k in range(blocks) if payload[bitmap_at + k // 8] >> k % 8 & 1]
    old = words[: blocks * 256].reshape(blocks, 256)[coded].reshape(-1)
    exponents = (old.astype(np.int64) & ((1 << (8 * word - 1)) - 1)) >> mantissa
    found, position, modulus = [], b, 1 << 8 * word
    for i, context in enumerate(np.clip(top - exponents, 0, 15).tolist()):
        token, bits, low = tables[context][states[i % 8]]
        position -= token + bits
        check(position >= 0, "residual stream too short")
        here = int.from_bytes(stream[position >> 3 : (position >> 3) + 8], "little") >> (position & 7)
        states[i % 8] = low + (here & ((1 << bits) - 1))
        found.append(((1 << token) + (here >> bits & ((1 << token) - 1))) % modulus)
    check(not coded or (position == 0 and not any(states)), "end of the residual stream")
    z = np.array(found, words.dtype) - words.dtype.type(1)
    one, magnitude = words.dtype.type(1), words.dtype.type((1 << (8 * word - 1)) - 1)
    moved = np.where(old > magnitude, old ^ magnitude, old) + ((z >> one) ^ (words.dtype.type(0) - (z & one)))
    words[: blocks * 256].reshape(blocks, 256)[coded] = np.where(moved > magnitude, moved ^ magnitude, moved).reshape(
        -1, 256
    )
    words[blocks * 256 :] = np.frombuffer(payload[tail_at : tail_at + r * word], words.dtype)
    return words.tobytes()


def decode(codec: int, dtype: int, payload: bytes, raw_length: int, base: bytes | None) -> bytes:
    """The raw bytes of a payload."""
    check((base is not None) == (codec in (3, 4, 5)), "base and codec")
    if codec == 0:
        raw = payload
    elif codec == 1:
        raw = unzstd(payload, raw_length) if raw_length else payload
    elif codec == 5:
        check(base is not None and len(base) == raw_length, "length of the base")
        raw = read_residual(payload, dtype, base or b"")
    else:
        check(codec in (2, 3, 4), "codec")
        word = WORDS[dtype]
        check(raw_length % word == 0, "whole words")
        words = read_planes(payload, word, raw_length // word)
        one, top = words.dtype.type(1), words.dtype.type(8 * word - 1)
        if codec == 2 and dtype in ROTATED:
            words = (words >> one) | (words << top)
        elif codec != 2:
            check(base is not None and len(base) == raw_length, "length of the base")
            other = np.frombuffer(base or b"", words.dtype)
            words = words ^ other if codec == 3 else ((words >> one) ^ (words.dtype.type(0) - (words & one))) + other
        raw = words.tobytes()
    check(len(raw) == raw_length, "raw length")
    return raw


class IndependentReader:
    def __init__(self, root: Path) -> None:
        self.root = root
        config = tomllib.loads((root / "castore.toml").read_text("utf-8"))
        check(config["format_version"] == 1 and not config.get("required_features"), "format version")
        self.hash = config.get("hash", "xxh3-128")
        self.id_bytes, self.digest = HASHES[self.hash]
        self.objects_read = 0
        self.records: dict[bytes, Record] = {}
        found = []
        for path in sorted((root / "packs").glob("??/*.pack")):
            found += read_pack(path.read_bytes(), path.stem, self.hash)
        while found:  # a record is taken when it stands alone or its base is taken: no chain is a circle
            left = []
            for record in found:
                if record.base and record.base not in self.records:
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
        base = self.raw(record.base) if record.base else None
        raw = decode(record.codec, record.dtype, payload, record.raw_length, base)
        check(self.digest(raw) == record_id, "id")
        return raw

    def depth(self, record_id: bytes) -> int:
        base = self.records[record_id].base
        return 1 + self.depth(base) if base else 0

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
