"""Decoding: bases first, each once, in bounded memory; circles and what lies beyond the bounds are refused."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from castore import codecs, limits, repo
from castore.chunks.batch import Buffers
from castore.chunks.closure import closure, depths
from castore.chunks.decode import Wanted
from castore.chunks.index import Place
from castore.chunks.writer import pack_path
from castore.errors import CorruptError, MissingError
from tests.chunks.dags import SEEDS, Node, below, id_of, random_dag, raw_of, write
from tests.chunks.xor_of_bases import ID, XorOfBases
from tests.samples import flip


def place(*bases: bytes) -> Place:
    return Place(b"p" * 16, 100, 1, 1, 0, 1, 0, 0, bases)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[repo.Repository]:
    repo.create(tmp_path / ".castore")
    opened = repo.Repository(tmp_path / ".castore")
    yield opened
    opened.close()


def wanted(store: repo.Repository, numbers: Sequence[int]) -> list[Wanted]:
    ids = [id_of(store, number) for number in numbers]
    places = store.chunks.places(ids)
    return [Wanted(one, at, memoryview(bytearray(at.raw_length))) for one, at in zip(ids, places, strict=True)]


def decoded(store: repo.Repository, numbers: Sequence[int]) -> None:
    """Decode in one call; everything must come out right."""
    items = wanted(store, numbers)
    store.chunks.decoder.decode(items)
    assert [bytes(item.out) for item in items] == [raw_of(number) for number in numbers]


def change(store: repo.Repository, number: int, **fields: object) -> None:
    """Let the index say something else of a record."""
    record_id = id_of(store, number)
    found = store.chunks.access.index.get(record_id)
    assert found is not None
    store.chunks.access.index.update(records=[(record_id, replace(found, **fields))])  # type: ignore[arg-type]


@given(SEEDS)
@settings(max_examples=40)
def test_any_records_wanted_in_any_order_come_out_right(
    codec_of_several_bases: XorOfBases, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng = random.Random(seed)
    dag = random_dag(rng)
    path = tmp_path_factory.mktemp("store") / ".castore"
    repo.create(path)
    store = repo.Repository(path)
    write(store, dag)
    places = {number: store.chunks.access.index.get(id_of(store, number)) for number in range(len(dag))}
    for _ in range(5):
        numbers = rng.choices(range(len(dag)), k=rng.randint(1, 2 * len(dag)))
        before = codec_of_several_bases.decoded
        decoded(store, numbers)
        expected = [number for number in below(dag, numbers) if places[number].codec == ID]  # type: ignore[union-attr]
        assert codec_of_several_bases.decoded - before == len(expected)  # each once
    store.close()


def test_the_order_has_bases_first_and_the_depth_is_that_of_the_deepest() -> None:
    needed = {b"w": place(b"w0", b"m", b"v"), b"m": place(b"m0"), b"v": place(), b"w0": place(), b"m0": place()}
    found = depths(needed)
    assert found == {b"w0": 0, b"m0": 0, b"m": 1, b"v": 0, b"w": 2}
    order = list(found)
    assert all(order.index(base) < order.index(one) for one, at in needed.items() for base in at.bases)


@pytest.mark.parametrize("size", [1, 2, 3, limits.MAX_DEPTH, 200])
def test_a_circle_is_refused_wherever_it_is_entered(size: int) -> None:
    circle = {name(n): place(name(1000), name((n + 1) % size)) for n in range(size)} | {name(1000): place()}
    for entry in (name(0), name(size - 1)):
        with pytest.raises(CorruptError, match="circle"):
            depths(closure({entry: circle[entry]}, lambda ids: [circle[one] for one in ids]))
    above = {name(2000): place(name(1000), name(0)), **circle}
    with pytest.raises(CorruptError, match="circle"):
        depths(closure({name(2000): above[name(2000)]}, lambda ids: [above[one] for one in ids]))


def test_depth_is_refused_beyond_its_bound_and_no_earlier() -> None:
    deep = {name(n): place(name(n - 1), name(0)) if n else place() for n in range(limits.MAX_DEPTH + 2)}
    (*_, at_bound, beyond) = deep

    def ordered(*ids: bytes) -> dict[bytes, int]:
        return depths(closure({one: deep[one] for one in ids}, lambda ids: [deep[one] for one in ids]))

    assert ordered(at_bound)[at_bound] == limits.MAX_DEPTH
    for ids in ([beyond], [at_bound, beyond], [beyond, at_bound]):  # also where most of it is known from another
        with pytest.raises(CorruptError, match="beyond all bounds"):
            ordered(*ids)


def test_a_chain_that_never_ends_costs_no_more_look_ups_than_the_bound() -> None:
    looked_up = []

    def endless(ids: Sequence[bytes]) -> list[Place]:
        looked_up.extend(ids)
        return [place(name(int.from_bytes(one, "big") + 1)) for one in ids]

    with pytest.raises(CorruptError):
        closure({name(0): place(name(1))}, endless)
    assert len(looked_up) <= limits.MAX_DEPTH + 1


def test_records_that_are_reached_on_countless_ways_are_decoded_once(store: repo.Repository) -> None:
    levels = limits.MAX_DEPTH
    dag = [Node(), Node()]
    for level in range(levels):
        dag += [Node((2 * level, 2 * level + 1)), Node((2 * level + 1, 2 * level))]
    write(store, dag)
    decoded(store, [2 * levels, 2 * levels + 1])
    write(store, [*dag, Node((2 * levels,), pack=0)])
    with pytest.raises(CorruptError, match="beyond all bounds"):
        decoded(store, [2 * levels + 2])


def test_a_circle_in_the_index_is_refused(store: repo.Repository) -> None:
    store.chunks.access.mends = False  # else it is made anew
    write(store, [Node(), Node((0,)), Node((1, 0)), Node((2,))])
    change(store, 1, bases=(id_of(store, 2),))
    for number in (1, 2, 3):
        with pytest.raises(CorruptError, match="circle"):
            decoded(store, [number])
    decoded(store, [0])


def test_bases_of_any_length_and_several_times_the_same(store: repo.Repository) -> None:
    lengths = {len(raw_of(number)) for number in range(3)}
    assert len(lengths) == 3
    write(store, [Node(), Node(), Node((0, 1, 0, 0)), Node((2, 2))])
    decoded(store, [3])
    decoded(store, [3, 0, 2, 3])


def test_a_record_that_does_not_fit_its_bases_is_refused(store: repo.Repository) -> None:
    store.chunks.access.mends = False  # else it is made anew
    dag = [Node(), Node(), Node((0, 1)), Node((0,), in_place=True), Node()]
    write(store, dag)
    other = id_of(store, 1)
    in_place = store.chunks.access.index.get(id_of(store, 3))
    assert in_place is not None and in_place.codec == codecs.XOR_PLANES
    for number, fields in [
        (3, {"bases": (other,)}),  # of another length
        (3, {"bases": (id_of(store, 0), other)}),
        (3, {"bases": ()}),
        (2, {"bases": ()}),
        (2, {"bases": (other, id_of(store, 0))}),  # in another order: other bytes
        (4, {"bases": (other,)}),
        (4, {"codec": 99}),
        (3, {"codec": 99}),
        (4, {"raw_length": 5}),
    ]:
        before = store.chunks.access.index.get(id_of(store, number))
        assert before is not None
        change(store, number, **fields)
        with pytest.raises(CorruptError, match=f"chunk {id_of(store, number).hex()}"):
            decoded(store, [number])
        change(store, number, **{name: getattr(before, name) for name in fields})
        decoded(store, [number])


def test_a_base_that_is_in_no_pack_is_named(store: repo.Repository) -> None:
    write(store, [Node((2, 1)), Node(), Node()][:2])
    with pytest.raises(MissingError, match=id_of(store, 2).hex()):
        decoded(store, [0])


def test_a_damaged_base_is_told_with_the_chunk_that_it_was_wanted_for(store: repo.Repository) -> None:
    store.chunks.access.mends = False  # else it is made anew
    write(store, [Node(), Node((0,), in_place=True), Node(), Node((1, 2)), Node((3,))])
    at = store.chunks.places([id_of(store, 0)])[0]
    flip(pack_path(store.chunks.packs, at.pack), at.offset)
    with pytest.raises(CorruptError, match=f"chunk {id_of(store, 4).hex()} .* base {id_of(store, 0).hex()}"):
        decoded(store, [2, 4])


def test_memory_for_bases_is_bounded(store: repo.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, [Node(), Node(), Node(), Node((0, 1, 2)), Node((0,)), Node((4, 1))])
    held = sum(len(raw_of(number)) for number in range(3))
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", held)
    decoded(store, [3])
    decoded(store, [5])
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", held - 1)
    with pytest.raises(CorruptError, match="at once"):
        decoded(store, [3])
    decoded(store, [0, 1, 2, 3])  # what is wanted itself takes no memory of ours


def test_buffers_are_used_again_and_few_are_kept() -> None:
    buffers = Buffers()
    small, large = buffers.take(100), buffers.take(1000)
    buffers.give(large)
    buffers.give(small)
    assert buffers.take(90) is small
    assert buffers.take(90) is large
    for _ in range(100):
        buffers.give(bytearray(limits.MIB))
    assert sum(map(len, buffers._free)) <= 8 * limits.MIB


def test_payloads_are_read_in_parts_that_fit_memory(store: repo.Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    from castore.chunks import decode

    write(store, [Node(), Node((0,), 1), Node((1, 0), 2), Node((2, 0, 1)), Node((3, 2, 1))])
    for size in (0, 30, 60):
        monkeypatch.setattr(decode, "_WINDOW_BYTES", size)
        decoded(store, [4, 2])


def test_what_decodes_to_the_right_bytes_is_right_whatever_its_checksum(store: repo.Repository) -> None:
    write(store, [Node(), Node((0,), in_place=True)])
    for number in range(2):
        change(store, number, checksum=5)
    decoded(store, [1])
