"""The pack format: what is written is read, and no damage goes unnoticed."""

from __future__ import annotations

import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import castore
from castore import limits
from castore.chunks import hashing, pack
from castore.chunks.hashing import checksum
from castore.chunks.reader import PackFiles
from castore.chunks.salvage import good_records, intact_records
from castore.chunks.writer import PackWriter, move_in, pack_path
from castore.errors import CorruptError
from castore.objects.provenance import Provenance, encode
from castore.operations.commit import commit_state
from castore.operations.details import details
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


def record(hash_: hashing.Hash, payload: bytes, number: int, kind: int = pack.CHUNK, bases: int = 0) -> pack.Entry:
    record_id = hash_.digest(number.to_bytes(4, "little"))
    base_ids = tuple(hash_.digest(b"base %d" % one) for one in range(bases))
    return pack.Entry(record_id, base_ids, 0, len(payload), 3 * len(payload), checksum(payload), kind, 0, 18)


@st.composite
def record_lists(draw: st.DrawFn) -> tuple[hashing.Hash, Records]:
    hash_ = hashing.by_name(draw(st.sampled_from(["xxh3-128", "blake3"])))
    records = []
    for number in range(draw(st.integers(1, 8))):
        payload = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 1, 3000]))
        bases = draw(st.integers(0, limits.MAX_BASES))
        records.append((record(hash_, payload, number, draw(st.sampled_from(pack.KINDS)), bases), payload))
    return hash_, records


@given(record_lists())
@settings(max_examples=30)
def test_a_pack_gives_back_its_records_with_and_without_its_footer(drawn: tuple[hashing.Hash, Records]) -> None:
    hash_, records = drawn
    with tempfile.TemporaryDirectory() as directory:
        files, pack_id, entries = write_pack(Path(directory), hash_, records)
        assert list(files.ids()) == [pack_id]
        assert files.footer(pack_id) == sorted(entries, key=lambda entry: entry.offset)
        for entry, (_, payload) in zip(entries, records, strict=True):
            assert files.read(pack_id, entry.offset, entry.length) == payload
        salvaged = list(intact_records(files, pack_id))
        assert salvaged == [(entry, payload) for entry, (_, payload) in zip(entries, records, strict=True)]


def test_records_of_a_damaged_pack_are_salvaged_but_those_that_are_hit(tmp_path: Path) -> None:
    hash_ = hashing.by_name("xxh3-128")
    payloads = [b"a" * 50, pack.Format.record_magic * 30, b"", b"b" * 100_000, b"c" * 10]
    records = [(record(hash_, payload, n, bases=n % 5), payload) for n, payload in enumerate(payloads)]
    files, pack_id, entries = write_pack(tmp_path, hash_, records)
    path = pack_path(tmp_path / "packs", pack_id)
    size = path.stat().st_size
    flip(path, size - 1)
    assert [payload for _, payload in intact_records(files, pack_id)] == payloads
    flip(path, entries[1].offset + 7)
    assert [payload for _, payload in intact_records(files, pack_id)] == [p for n, p in enumerate(payloads) if n != 1]
    flip(path, entries[3].offset - files.format.record_header_bytes(3))  # its magic
    assert [payload for _, payload in intact_records(files, pack_id)] == [b"a" * 50, b"", b"c" * 10]
    with path.open("r+b") as file:
        file.truncate(entries[4].offset + 9)
    assert [payload for _, payload in intact_records(files, pack_id)] == [b"a" * 50, b""]


def test_a_pack_cut_at_any_length_is_refused_and_its_whole_records_are_salvaged(tmp_path: Path) -> None:
    hash_ = hashing.by_name("xxh3-128")
    payloads = [b"first", b"second record", b"x"]
    records = [(record(hash_, payload, n, bases=n), payload) for n, payload in enumerate(payloads)]
    files, pack_id, entries = write_pack(tmp_path, hash_, records)
    path = pack_path(tmp_path / "packs", pack_id)
    for size in range(path.stat().st_size - 1, -1, -1):
        with path.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(CorruptError):
            files.footer(pack_id)
        whole = [p for p, entry in zip(payloads, entries, strict=True) if entry.offset + entry.length <= size]
        assert [payload for _, payload in intact_records(files, pack_id)] == whole


@pytest.mark.parametrize("fmt", pack.formats(16), ids=lambda fmt: f"v{fmt.version}")
@pytest.mark.parametrize("bases", [(), (b"b" * 16,)])
def test_an_entry_that_claims_the_impossible_is_refused(fmt: pack.Format, bases: tuple[bytes, ...]) -> None:
    good = pack.Entry(b"i" * 16, bases, 200, 10, 10, 0, pack.CHUNK, 0, 0)
    data = fmt.pack_entry(good)
    assert fmt.parse_entry(data, 0, 1000) == (good, len(data))
    assert fmt.parse_entry(b"before" + data + b"after", 6, 1000) == (good, 6 + len(data))
    first = pack.HEADER_BYTES + fmt.record_header_bytes(len(bases))
    for field, value in [
        *(("kind", 0), ("kind", 9), ("raw_length", 1 << 25), ("length", 1 << 27), ("offset", 3), ("offset", 995)),
        *(("offset", (1 << 64) - 1), ("length", 900), ("offset", first - 1)),
    ]:
        with pytest.raises(CorruptError):
            fmt.parse_entry(fmt.pack_entry(replace(good, **{field: value})), 0, 1000)
    for length in range(len(data)):
        with pytest.raises(CorruptError):
            fmt.parse_entry(data[:length], 0, 1000)


def test_an_entry_has_no_more_bases_than_the_limit() -> None:
    fmt = pack.Format(16)
    ids = [bytes([number]) * 16 for number in range(limits.MAX_BASES + 1)]
    entry = pack.Entry(b"i" * 16, tuple(ids[:-1]), 200, 10, 10, 0, pack.CHUNK, 0, 0)
    data = bytearray(fmt.pack_entry(entry))
    assert len(data) == fmt.most_entry_bytes
    assert fmt.parse_entry(data, 0, 1000) == (entry, len(data))
    data[fmt.least_entry_bytes - 1] = len(ids)
    with pytest.raises(CorruptError, match="claims 5 bases"):
        fmt.parse_entry(bytes(data) + ids[-1], 0, 1000)
    with pytest.raises(ValueError, match="at most 4 bases"):
        fmt.pack_entry(replace(entry, bases=tuple(ids)))


def test_a_pack_of_another_version_is_named(tmp_path: Path) -> None:
    known = pack.formats(16)
    assert [pack.format_of(fmt.header, known) for fmt in known] == list(known)
    with pytest.raises(CorruptError, match="version 3"):
        pack.format_of(known[0].header[:8] + b"\x03\x00" + known[0].header[10:], known)
    for other in (pack.Format(32).header, bytes(16), known[0].header[:-1] + b"\x01", known[0].header[:-1]):
        with pytest.raises(CorruptError):
            pack.format_of(other, known)


def test_a_footer_that_does_not_fit_its_count_is_refused() -> None:
    fmt = pack.Format(16)
    entries = [pack.Entry(bytes([n]) * 16, (b"b" * 16,) * n, 500, 1, 1, 0, pack.CHUNK, 0, 0) for n in range(5)]
    footer = fmt.footer(entries)
    assert fmt.parse_footer(footer, 5, 1000) == entries
    for count in (4, 6, 0):
        with pytest.raises(CorruptError):
            fmt.parse_footer(footer, count, 1000)
    size = 1000 + len(footer) + fmt.trailer_bytes
    trailer = fmt.trailer(pack.Trailer(1000, 5, b"h" * 16))
    assert fmt.parse_trailer(trailer, size) == pack.Trailer(1000, 5, b"h" * 16)
    for offset, count in [(1000, 0), (1000, 1), (1000, 1 << 24), (1000, (1 << 32) - 1), (15, 5), (1 << 63, 5), (0, 5)]:
        with pytest.raises(CorruptError):
            fmt.parse_trailer(fmt.trailer(pack.Trailer(offset, count, b"h" * 16)), size)
    with pytest.raises(CorruptError, match="wrong version"):
        pack.FormatV1(16).parse_trailer(trailer, size)


def sealed_by_an_attacker(root: Path, hash_: hashing.Hash, before: bytes, footer: bytes, count: int) -> bytes:
    """A pack with any bytes as its footer, whose hashes are right."""
    fmt = pack.Format(hash_.size)
    pack_id = hash_.digest(footer)
    path = pack_path(root / "packs", pack_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(before + footer + fmt.trailer(pack.Trailer(len(before), count, pack_id)))
    return pack_id


@given(record_lists(), st.data())
@settings(max_examples=60)
def test_a_hostile_pack_is_refused_or_read_and_nothing_else(
    drawn: tuple[hashing.Hash, Records], data: st.DataObject
) -> None:
    """Footer, record headers and counts damaged at will, with all hashes made right again."""
    hash_, records = drawn
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        files, pack_id, entries = write_pack(root, hash_, records)
        whole = bytearray(pack_path(root / "packs", pack_id).read_bytes())
        end = len(whole) - files.format.trailer_bytes
        start = end - sum(files.format.entry_bytes(len(entry.bases)) for entry in entries)
        for _ in range(data.draw(st.integers(1, 4))):
            if data.draw(st.booleans()):
                whole[data.draw(st.integers(start, end - 1))] = data.draw(st.integers(0, 255))
            else:
                entry = data.draw(st.sampled_from(entries))
                at = entry.offset - data.draw(st.integers(1, files.format.record_header_bytes(len(entry.bases))))
                whole[at] = data.draw(st.integers(0, 255))
        footer = bytes(
            whole[start : data.draw(st.integers(start, end))] if data.draw(st.booleans()) else whole[start:end]
        )
        count = data.draw(st.sampled_from([len(entries), len(entries) - 1, len(entries) + 1, 1 << 24, 1 << 31]))
        hostile = sealed_by_an_attacker(root, hash_, bytes(whole[:start]), footer, count)
        tracemalloc.start()
        try:
            found = files.footer(hostile)
        except CorruptError:
            pass
        else:
            assert len(found) == count
            for entry in found:
                assert len(entry.bases) <= limits.MAX_BASES
                assert entry.offset + entry.length <= start
        for salvage in (intact_records, good_records):
            for entry, payload in salvage(files, hostile):
                assert len(entry.bases) <= limits.MAX_BASES
                assert len(payload) == entry.length
        assert tracemalloc.get_traced_memory()[1] < 4 * (len(whole) + (1 << 20)) + (1 << 20)
        tracemalloc.stop()


@pytest.fixture
def small_store(tmp_path: Path) -> Store:
    """A store whose only pack has a few hundred bytes."""
    store = castore.open(tmp_path, create=True)
    told = replace(details("m", author="a"), provenance=encode(Provenance({"notes": {"a": "b"}})))
    commit_state(store.repository, {"w": b"payload", "n": bytearray(range(9))}, "main", told)
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
                other.provenance() if entry.kind == pack.PROVENANCE else other.load()
            flip(path, entry.offset + entry.length // 2)
