"""The test vectors and tables of docs/format.md, taken out of the page: against the code and the independent reader."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import blake3
import cbor2
import numpy as np
import pytest
import xxhash
from independent_codecs import MANTISSAS, RESIDUALS, ROTATED, WORDS, FormatError, decode
from independent_reader import WIDTHS, IndependentReader, read_entry, read_pack
from tiny_pack import tiny_pack

from castore import codecs, config, dtypes, limits
from castore.chunks import content, pack
from castore.codecs import residual
from castore.codecs.base import FromBases
from castore.errors import CorruptError
from castore.objects import nodes, tree
from castore.objects.read_tree import TreeReader
from castore.objects.tree import TreeWriter

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")


def block(marker: str) -> list[str]:
    """The lines between a marker of the page and the end of the table or fence that follows it."""
    _, found, rest = PAGE.partition(f"<!-- {marker} -->\n")
    assert found, f"docs/format.md has lost its {marker}"
    if rest.startswith("```"):
        return rest.split("```")[1].splitlines()[1:]
    return rest.split("\n\n")[0].splitlines()


def rows(marker: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block(marker)]
    return cells[2:]


def unhex(cell: str) -> bytes:
    """The hex in the backticks of a cell; "N times" behind a piece repeats it."""
    found = b""
    for piece, times in re.findall(r"`([0-9a-f ]*)`(?: (\d+) times)?", cell):
        found += bytes.fromhex(piece) * int(times or 1)
    return found


@dataclass(frozen=True)
class CodecVector:
    codec: int
    is_compressed: bool
    dtype: str
    base: bytes | None
    raw: bytes
    payload: bytes


def ruled_vector(row: list[str]) -> CodecVector:
    """Base and raw of a row of rules: expressions of `i`, the raw ones of `base` too."""
    kind, has_base = f"<u{dtypes.by_name(row[1]).word}", row[3] != ""
    base_rule, raw_rule = (compile(cell.strip("`") or "0", "docs/format.md", "eval") for cell in row[3:5])
    base = [eval(base_rule, {"i": i}) for i in range(int(row[2]))]
    raw = [eval(raw_rule, {"i": i, "base": word}) for i, word in enumerate(base)]
    old, new = np.array(base, kind).tobytes(), np.array(raw, kind).tobytes()
    return CodecVector(int(row[0].split()[0]), "*" in row[0], row[1], old if has_base else None, new, unhex(row[5]))


CODEC_VECTORS = [
    CodecVector(int(row[0].split()[0]), "*" in row[0], row[1], unhex(row[2]) or None, unhex(row[3]), unhex(row[4]))
    for row in rows("vector: codecs")
] + [ruled_vector(row) for marker in ("residual", "tokens", "predicted") for row in rows(f"vector: {marker}")]


@pytest.mark.parametrize("vector", CODEC_VECTORS, ids=lambda v: f"{v.codec}-{v.dtype}-{len(v.payload)}")
def test_payloads_of_the_page_mean_the_same_to_both_readers(vector: CodecVector) -> None:
    dtype = dtypes.by_name(vector.dtype)
    bases = [] if vector.base is None else [vector.base]
    assert decode(vector.codec, dtype.code, vector.payload, len(vector.raw), bases) == vector.raw
    assert ours(vector, vector.payload) == vector.raw


def ours(vector: CodecVector, payload: bytes) -> bytes:
    """What castore makes of a payload. Raises CorruptError where it is refused."""
    dtype, codec = dtypes.by_name(vector.dtype), codecs.by_id(vector.codec)
    out = bytearray(vector.base or bytes(len(vector.raw)))
    if isinstance(codec, FromBases):
        codec.decode_from(payload, dtype, memoryview(out), [memoryview(vector.base or b"")])
    else:
        codec.decode(payload, dtype, memoryview(out))
    return bytes(out)


def meaning(vector: CodecVector, payload: bytes) -> list[bytes | None]:
    """What the independent reader and castore make of a payload; None where it is refused."""
    dtype, found = dtypes.by_name(vector.dtype), list[bytes | None]()
    bases = [] if vector.base is None else [vector.base]
    try:
        found.append(decode(vector.codec, dtype.code, payload, len(vector.raw), bases))
    except FormatError:
        found.append(None)
    try:
        found.append(ours(vector, payload))
    except CorruptError:
        found.append(None)
    return found


@pytest.mark.parametrize(
    "vector",
    [
        v
        for v in CODEC_VECTORS
        if v.codec in (codecs.RESIDUAL, codecs.ORDERED_DELTA, codecs.EXPONENTS, codecs.PREDICTED)
    ],
    ids=lambda v: f"{v.codec}-{v.dtype}-{len(v.payload)}",
)
def test_a_damaged_payload_means_the_same_to_both_readers(vector: CodecVector) -> None:
    rng = np.random.default_rng(12)
    for _ in range(200):
        damaged = bytearray(vector.payload)
        damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
        independent, found = meaning(vector, bytes(damaged))
        assert independent == found, damaged.hex()


@pytest.mark.parametrize(
    "vector", [v for v in CODEC_VECTORS if not v.is_compressed], ids=lambda v: f"{v.codec}-{v.dtype}"
)
def test_payloads_of_the_page_without_a_compressor_are_what_castore_writes(vector: CodecVector) -> None:
    payload = codecs.by_id(vector.codec).encode(vector.raw, dtypes.by_name(vector.dtype), vector.base)
    assert bytes(payload) == vector.payload


def test_the_pack_of_the_page_is_what_castore_writes(tmp_path: Path) -> None:
    made = tiny_pack(tmp_path)
    assert made.data == pack_of_the_page()
    assert f"packs/{made.id.hex()[:2]}/{made.id.hex()}.pack" in PAGE
    assert f"{len(made.data)} bytes" in PAGE


def test_the_pack_of_the_page_reads_back(tmp_path: Path) -> None:
    made = tiny_pack(tmp_path)
    data = pack_of_the_page()
    path = tmp_path / "packs" / made.id.hex()[:2] / f"{made.id.hex()}.pack"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    (tmp_path / "castore.toml").write_text('format_version = 1\nhash = "xxh3-128"\n')
    reader = IndependentReader(tmp_path)
    assert {one: reader.raw(one) for one in reader.records} == made.records
    commit = reader.commit(list(made.records)[-1].hex())
    assert (commit["message"], commit["step"], commit["author"]) == ("tiny", 7, "ada@host")
    (leaf,) = reader.leaves(reader.tree(commit["tree"]))
    assert (leaf.path, leaf.dtype, leaf.shape) == (("w",), "float32", (2,))
    assert leaf.data == bytes.fromhex("0100803f000000c0")


def test_offsets_in_the_pack_of_the_page_are_right() -> None:
    lines, at = block("vector: pack"), 0
    for line in lines:
        if line.startswith("    "):
            at += len(bytes.fromhex(line))
        elif found := re.search(r" at (\d+)", line):
            assert at == int(found[1]), line
    assert len(read_pack(pack_of_the_page(), "41963244f7b7e9eeb59485b5eda2ea1b", "xxh3-128")) == 4


def test_the_entry_of_the_page_means_the_same_to_both_readers() -> None:
    lines = PAGE.partition("<!-- vector: entry -->\n")[2].split("```")[1].splitlines()[1:]
    data = bytes.fromhex("".join(lines))
    first, second = (bytes.fromhex(part) for part in lines[2].split()[:2])
    entry = pack.Entry(
        id=bytes.fromhex(lines[0]),
        bases=(first, second, first),
        offset=4096,
        length=1000,
        raw_length=4000,
        checksum=0x0123456789ABCDEF,
        kind=pack.CHUNK,
        codec=8,
        dtype=dtypes.by_name("float32").code,
        generation=3,
    )
    assert pack.Format(16).pack_entry(entry) == data
    assert pack.Format(16).parse_entry(data, 0, 10_000) == (entry, len(data))
    ids, numbers, end = read_entry(data, 0, 2, 16)
    assert (ids, end) == ([entry.id, *entry.bases], len(data))
    assert numbers == (4096, 1000, 4000, entry.checksum, 1, 8, 18, 3)


def pack_of_the_page() -> bytes:
    return b"".join(bytes.fromhex(line) for line in block("vector: pack") if line.startswith("    "))


def test_hashes_of_the_page_are_right() -> None:
    for given, short, long, checksum in rows("vector: hashes"):
        data = unhex(given)
        assert xxhash.xxh3_128_digest(data) == unhex(short)
        assert blake3.blake3(data).digest() == unhex(long)
        assert xxhash.xxh3_64_intdigest(data) == int.from_bytes(unhex(checksum), "little")


def test_nodes_of_the_page_survive_castore_unchanged() -> None:
    for cell, meaning in rows("vector: nodes"):
        data = unhex(cell)
        assert cbor2.dumps(cbor2.loads(data), canonical=True) == data, meaning
        written: list[bytes] = []

        def put(kind: int, encoded: bytes, written: list[bytes] = written) -> bytes:
            written.append(encoded)
            return b""

        node = TreeReader(lambda object_id, kind, data=data: data, 16).read(b"")
        TreeWriter(put).write(node)
        assert written == [data], meaning


def test_keys_of_the_page_cut_where_it_says() -> None:
    for cell, _, key_hash, ends in rows("vector: keys"):
        assert f"`{xxhash.xxh32_hexdigest(unhex(cell))}`" == key_hash
        assert (int(key_hash.strip("`"), 16) % 32 == 0) == (ends == "yes")


def test_segments_are_cut_as_the_page_says() -> None:
    """From the encodings of the items and the hashes of their keys, as the page has it."""
    written: list[bytes] = []

    def put(kind: int, data: bytes) -> bytes:
        written.append(data)
        return xxhash.xxh3_128_digest(data)

    keys = [f"layers.{number}.weight" for number in range(1500)]
    TreeWriter(put).write(nodes.Map("dict", [(nodes.Value(key), nodes.Value(key * (len(key) % 7))) for key in keys]))
    segments: list[list[bytes]] = [[]]
    for key in keys:
        encoded = cbor2.dumps(key)
        segments[-1].append(encoded + cbor2.dumps(key * (len(key) % 7)))
        size = sum(map(len, segments[-1]))
        if size >= 16384 or (size >= 2048 and xxhash.xxh32_intdigest(encoded) % 32 == 0):
            segments.append([])
    expected = [b"".join(items) for items in segments if items]
    assert len(expected) > 10
    assert [b"".join(map(cbor2.dumps, cbor2.loads(data))) for data in written[:-1]] == expected
    assert written[-1] == cbor2.dumps([6, "dict", b"".join(map(xxhash.xxh3_128_digest, written[:-1]))])


def test_plain_bytes_are_cut_as_the_page_says() -> None:
    text = " ".join(block("vector: cuts"))
    data = hashlib.shake_128(b"castore").digest(4 << 20)
    cuts = [length for _, length in content.cut(lambda at, length: data[at : at + length], len(data))]
    assert cuts == [int(number) for number in re.findall(r"\b\d{6}\b", text)]


def test_tables_of_the_page_are_those_of_the_code() -> None:
    listed = [(int(code), name, int(width), int(word)) for code, name, width, word, _ in rows("table: dtypes")]
    assert listed == [(d.code, d.name, d.width, d.word) for d in dtypes.BY_CODE.values()]
    floats = {row[1] for row in rows("table: dtypes") if row[4] == "yes"}
    assert floats == {d.name for d in dtypes.BY_CODE.values() if d.exponent}
    assert {int(row[0]) for row in rows("table: kinds")} == set(pack.KINDS)
    described = [(int(row[0]), row[1], row[2].startswith("yes")) for row in rows("table: codecs")]
    assert described == [(c.id, c.name, c.is_delta) for c in map(codecs.by_id, codecs.known_ids())]
    types = {int(row[0]): row[1].upper() for row in rows("table: nodes")}
    assert types == {getattr(tree, name): name for name in types.values()}


def test_limits_of_the_page_are_those_of_the_code() -> None:
    for what, values, names in rows("table: limits"):
        expected = [getattr(limits, name) for name in re.findall(r"`(\w+)`", names)]
        assert [int(value) for value in values.split(", ")] == expected, what


def test_defaults_of_the_page_are_those_of_the_code() -> None:
    default = config.Config()
    for name, value in (
        ("hash", f'"{default.hash}"'),
        ("chunk_elements", default.chunk_elements),
        ("delta.max_depth", default.max_depth),
        ("delta.max_depth_half", default.max_depth_half),
        ("delta.max_depth_predicted", default.max_depth_predicted),
        ("delta.max_span", default.max_span),
        ("gc.reflog_expire_days", default.reflog_expire_days),
    ):
        assert re.search(rf"^\| `{re.escape(name)}` \| \w+ \| `?{value}`? \|", PAGE, re.MULTILINE), name


def test_the_independent_reader_knows_every_dtype() -> None:
    assert {d.code: d.word for d in dtypes.BY_CODE.values()} == WORDS
    assert {d.name: d.width for d in dtypes.BY_CODE.values()} == WIDTHS
    assert {d.code for d in dtypes.BY_CODE.values() if d.exponent and d.word > 1} == ROTATED
    assert {d.code for d in dtypes.BY_CODE.values() if residual.supports(d)} == RESIDUALS
    mantissas = {d.code: 8 * d.word - 1 - d.exponent for d in dtypes.BY_CODE.values() if d.exponent}
    assert {code: bits for code, bits in mantissas.items() if bits >= 0} == MANTISSAS
