"""Packs of version 1, whose entries have room for one base, are read for ever; who copies a record writes version 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.chunks import pack
from castore.chunks.salvage import intact_records
from castore.store import Store
from castore.testing.states import equal_states
from tests.chunks.fixture_v1 import DELTAS, KEPT, PACKS, RECORDS, copy_of_the_store, noise, state
from tests.samples import assert_sound, flip, packs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.open(copy_of_the_store(tmp_path / ".castore")) as opened:
        yield opened


def versions(store: Store) -> list[int]:
    """The version of every pack, oldest first."""
    return [int.from_bytes(path.read_bytes()[8:10], "little") for path in packs(store)]


def assert_main_loads(store: Store) -> None:
    for step in range(3):
        assert equal_states(store.load(f"main:step={step}"), state(step))


def test_it_opens_and_loads_and_makes_its_index_anew(store: Store) -> None:
    assert versions(store) == [1] * PACKS
    assert_main_loads(store)
    assert equal_states(store.load("first"), state(0))
    assert equal_states(store.load("gone"), {"noise": noise(), "kept": KEPT})
    assert equal_states(store.load("kept"), {"kept": KEPT})
    for _ in range(2):
        records = list(store._repo.chunks.access.index.items())
        assert len(records) == RECORDS
        assert {place.kind for _, place in records} == {pack.CHUNK, pack.TREE, pack.COMMIT, pack.CHUNK_LIST}
        assert sum(len(place.bases) for _, place in records) == DELTAS
        assert store._repo.chunks.access.rebuild() == []
    assert_sound(store)


def test_commits_on_it_are_deltas_to_its_chunks_in_packs_of_version_2(store: Store) -> None:
    made = store.commit(state(3), step=3)
    assert made.stats.total.delta_bytes > 0
    assert sorted(versions(store)) == [1] * PACKS + [2]
    assert equal_states(store.load("main"), state(3))
    assert_main_loads(store)
    assert_sound(store)
    store._repo.chunks.access.rebuild()
    assert equal_states(store.load("main"), state(3))


def test_gc_copies_what_is_alive_into_packs_of_version_2(store: Store) -> None:
    assert store.gc().removed_chunks == 0
    assert versions(store) == [1] * PACKS
    store.delete_branch("gone", force=True)
    told = store.gc(dry_run=True)
    done = store.gc()
    assert (done.removed_chunks, done.rewritten_packs, done.freed_bytes) == (3, 1, told.freed_bytes)
    assert sorted(versions(store)) == [1] * (PACKS - 1) + [2]
    assert equal_states(store.load("kept"), {"kept": KEPT})
    assert_main_loads(store)
    assert_sound(store)
    store._repo.chunks.access.rebuild()
    assert equal_states(store.load("kept"), {"kept": KEPT})
    assert store.gc().removed_packs == 0


def test_deltas_that_are_copied_keep_their_bases(store: Store) -> None:
    from castore.maintenance.copying import Copier

    store._repo.require_features()
    index = store._repo.chunks.access.index
    before = dict(index.items())
    with Copier(store._repo) as copier:
        copier.copy(before.items())
        new, records = copier.publish()
        index.update(packs=new, records=records, gone_packs=[bytes.fromhex(one.stem) for one in packs(store)[:PACKS]])
    after = dict(index.items())
    assert {one: place.bases for one, place in after.items()} == {one: place.bases for one, place in before.items()}
    for one in packs(store):
        if one.read_bytes()[8] == 1:
            one.unlink()
    with castore.open(store.path) as again:
        again._repo.chunks.access.rebuild()
        assert versions(again) == [2]
        assert dict(again._repo.chunks.access.index.items()) == after
        assert_main_loads(again)
        assert_sound(again)


@pytest.mark.parametrize("where", ["header", "record header", "footer", "trailer", "cut"])
def test_its_packs_are_repaired_into_version_2(store: Store, where: str) -> None:
    for number, path in enumerate(packs(store)):
        size = path.stat().st_size
        at = {"header": 9 - number % 2, "record header": 30, "footer": size - 60, "trailer": size - 20, "cut": 0}[where]
        if at:
            flip(path, at)
        else:
            path.write_bytes(path.read_bytes()[:-30])
    with castore.open(store.path) as other:
        report = other.fsck()
        assert len({error.pack for error in report.errors if error.pack}) == PACKS
        repaired = other.fsck(repair=True)
        assert repaired.ok, repaired.errors
        assert repaired.records == RECORDS
        assert versions(other) == [2] * PACKS
        assert len(list((other.path / "quarantine").iterdir())) == PACKS
        assert_main_loads(other)
        assert_sound(other)


def test_its_packs_are_salvaged_record_by_record(store: Store) -> None:
    files = store._repo.chunks.files
    for path in packs(store):
        pack_id = bytes.fromhex(path.stem)
        entries = files.footer(pack_id)
        assert [entry for entry, _ in intact_records(files, pack_id)] == entries
        flip(path, entries[0].offset)
        assert [entry for entry, _ in intact_records(files, pack_id)] == entries[1:]
        flip(path, entries[0].offset)
        flip(path, entries[-1].offset - 30)  # what it says of itself
        assert [entry for entry, _ in intact_records(files, pack_id)][:-1] == entries[:-1]


def test_a_flipped_bit_anywhere_in_its_packs_is_found_by_fsck(store: Store) -> None:
    path = min(packs(store), key=lambda one: one.stat().st_size)
    for offset in range(path.stat().st_size):
        flip(path, offset, 1 << (offset * 5 % 8))
        report = store.fsck()
        assert not report.ok, f"byte {offset}"
        assert any(path.name == error.pack for error in report.errors)
        flip(path, offset, 1 << (offset * 5 % 8))
    assert_sound(store)


def test_a_damaged_base_in_it_is_told_with_what_it_affects(store: Store) -> None:
    index = store._repo.chunks.access.index
    bases = {base for _, place in index.items() for base in place.bases}
    root = next(one for one in sorted(bases) if not index.get(one).bases)  # type: ignore[union-attr]
    place = index.get(root)
    assert place is not None
    flip(store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack", place.offset)
    with castore.open(store.path) as other:
        errors = other.fsck().errors
        (error,) = [error for error in errors if error.record == root.hex()]
        assert set(error.commits) == {commit.id for commit in other.log("main")}
        assert not other.fsck(repair=True).ok
        assert sorted(versions(other)) == [1] * (PACKS - 1) + [2]
        assert equal_states(other.load("kept"), {"kept": KEPT})
        for step in range(3):
            other.commit(state(step), branch="again")
        assert_main_loads(other)
        assert_sound(other)
