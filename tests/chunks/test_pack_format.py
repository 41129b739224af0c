"""The pack format: what is written is read, and no damage goes unnoticed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import castore
from castore.chunks import hashing, pack
from castore.chunks.hashing import checksum
from castore.chunks.reader import PackFiles
from castore.chunks.salvage import intact_records
from castore.chunks.writer import PackWriter, move_in, pack_path
from castore.errors import CorruptError
from castore.store import Store
from tests.samples import flip, packs

Records = list[tuple[pack.Entry, bytes]]


def write_pack(root: Path, hash_: hashing.Hash, records: Records) -> tuple[PackFiles, bytes, list[pack.Entry]]:
    for name in ("incoming", "packs"):
        (root / name).mkdir()
    writer = PackWriter(root / "incoming", hash_)
    entries = [writer.append(entry, payload) for entry, payload in records]
    sealed = writer.seal()
    move_in(sealed, root / "packs")
    writer.close()
    assert sealed.size == pack_path(root / "packs", sealed.id).stat().st_size
    return PackFiles(root / "packs", hash_), sealed.id, entries


def record(hash_: hashing.Hash, payload: bytes, number: int, kind: int = pack.CHUNK, base: bytes = b"") -> pack.Entry:
    record_id = hash_.digest(number.to_bytes(4, "little"))
    return pack.Entry(record_id, base, 0, len(payload), 3 * len(payload), checksum(payload), kind, 0, 18)


@st.composite
def record_lists(draw: st.DrawFn) -> tuple[hashing.Hash, Records]:
    hash_ = hashing.by_name(draw(st.sampled_from(["xxh3-128", "blake3"])))
    records = []
    for number in range(draw(st.integers(1, 8))):
        payload = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 1, 3000]))
        base = draw(st.sampled_from([b"", hash_.digest(b"base")]))
        records.append((record(hash_, payload, number, draw(st.sampled_from(pack.KINDS)), base), payload))
    return hash_, records


@given(record_lists())
@settings(max_examples=30, deadline=None)
def test_a_pack_gives_back_its_records_with_and_without_its_footer(drawn: tuple[hashing.Hash, Records]) -> None:
    hash_, records = drawn
    with tempfile.TemporaryDirectory() as directory:
        files, pack_id, entries = write_pack(Path(directory), hash_, records)
        assert list(files.ids()) == [pack_id]
        assert files.footer(pack_id) == sorted(entries, key=lambda entry: entry.offset)
        for entry, (_, payload) in zip(entries, records, strict=True):
            assert files.read(pack_id, entry.offset, entry.length) == payload
        assert [(e.id, e.base, p) for e, p in intact_records(files, pack_id)] == [(e.id, e.base, p) for e, p in records]


def test_records_of_a_damaged_pack_are_salvaged_but_those_that_are_hit(tmp_path: Path) -> None:
    hash_ = hashing.by_name("xxh3-128")
    payloads = [b"a" * 50, pack.RECORD_MAGIC * 30, b"", b"b" * 100_000, b"c" * 10]
    files, pack_id, entries = write_pack(tmp_path, hash_, [(record(hash_, p, n), p) for n, p in enumerate(payloads)])
    path = pack_path(tmp_path / "packs", pack_id)
    size = path.stat().st_size
    flip(path, size - 1)
    assert [payload for _, payload in intact_records(files, pack_id)] == payloads
    flip(path, entries[1].offset + 7)
    assert [payload for _, payload in intact_records(files, pack_id)] == [p for n, p in enumerate(payloads) if n != 1]
    flip(path, entries[3].offset - files.format.record_header_bytes)  # its magic
    assert [payload for _, payload in intact_records(files, pack_id)] == [b"a" * 50, b"", b"c" * 10]
    with path.open("r+b") as file:
        file.truncate(entries[4].offset + 9)
    assert [payload for _, payload in intact_records(files, pack_id)] == [b"a" * 50, b""]


def test_a_pack_cut_at_any_length_is_refused_and_its_whole_records_are_salvaged(tmp_path: Path) -> None:
    hash_ = hashing.by_name("xxh3-128")
    payloads = [b"first", b"second record", b"x"]
    files, pack_id, entries = write_pack(tmp_path, hash_, [(record(hash_, p, n), p) for n, p in enumerate(payloads)])
    path = pack_path(tmp_path / "packs", pack_id)
    for size in range(path.stat().st_size - 1, -1, -1):
        with path.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(CorruptError):
            files.footer(pack_id)
        whole = [p for p, entry in zip(payloads, entries, strict=True) if entry.offset + entry.length <= size]
        assert [payload for _, payload in intact_records(files, pack_id)] == whole


def test_an_entry_that_claims_the_impossible_is_refused(tmp_path: Path) -> None:
    fmt = pack.Format(16)
    good = pack.Entry(b"i" * 16, b"", 200, 10, 10, 0, pack.CHUNK, 0, 0)
    assert fmt.parse_entry(fmt.pack_entry(good), 1000) == good
    for field, value in [
        *(("kind", 0), ("kind", 9), ("raw_length", 1 << 25), ("length", 1 << 27), ("offset", 3), ("offset", 995)),
        *(("offset", (1 << 64) - 1), ("length", 900)),
    ]:
        fields = {name: getattr(good, name) for name in pack.Entry.__slots__} | {field: value}
        with pytest.raises(CorruptError):
            fmt.parse_entry(fmt.pack_entry(pack.Entry(**fields)), 1000)


def test_a_newer_pack_version_is_named(tmp_path: Path) -> None:
    fmt = pack.Format(16)
    with pytest.raises(CorruptError, match="version 2"):
        fmt.parse_header(fmt.header[:8] + b"\x02\x00" + fmt.header[10:])


@pytest.fixture
def small_store(tmp_path: Path) -> Store:
    """A store whose only pack has a few hundred bytes."""
    store = castore.open(tmp_path, create=True)
    store.commit({"w": b"payload", "n": bytearray(range(9))}, author="a", message="m")
    return store


def test_a_flipped_bit_anywhere_in_a_pack_is_found_by_fsck(small_store: Store) -> None:
    (path,) = packs(small_store)
    size = path.stat().st_size
    assert size < 2000
    for offset in range(size):
        flip(path, offset, 1 << (offset * 5 % 8))
        report = small_store.fsck(read_data=True)
        assert not report.ok, f"byte {offset} of {size}"
        assert any(path.name == error.pack for error in report.errors)
        flip(path, offset, 1 << (offset * 5 % 8))
    assert small_store.fsck(read_data=True).ok


def test_a_flipped_bit_in_a_payload_is_found_by_the_load_that_meets_it(tmp_path: Path) -> None:
    import torch

    store = castore.open(tmp_path, create=True)
    state = {"w": torch.arange(60, dtype=torch.float32)}
    store.commit(state)
    (path,) = packs(store)
    entries = store._repo.chunks.files.footer(bytes.fromhex(path.stem))
    (chunk,) = [entry for entry in entries if entry.kind == pack.CHUNK]
    for offset in range(chunk.offset, chunk.offset + chunk.length):
        flip(path, offset, 1 << (offset * 3 % 8))
        with pytest.raises(CorruptError, match="w cannot be loaded"):
            store.load()
        flip(path, offset, 1 << (offset * 3 % 8))
    assert torch.equal(store.load()["w"], state["w"])
    for entry in entries:
        if entry.kind != pack.CHUNK:
            flip(path, entry.offset + entry.length // 2)
            with castore.open(tmp_path) as other, pytest.raises(CorruptError):
                other.load()
            flip(path, entry.offset + entry.length // 2)
