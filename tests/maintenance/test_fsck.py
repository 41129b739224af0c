"""fsck finds what is wrong and names whom it affects; --repair takes it out of service and touches nothing good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import castore
from castore.chunks import pack
from castore.chunks.index import Place
from castore.errors import CorruptError, RevisionError
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import LARGE, assert_loads, assert_sound, flip, packs, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def places(store: Store, rev: str, path: str) -> list[tuple[bytes, Place]]:
    """The chunks of one tensor and where they lie."""
    from castore.objects import nodes

    tree = store._repo.tree(store.show(rev))
    (entry,) = [entry for where, entry in nodes.tensors(tree) if ".".join(where) == path]
    size = store._repo.hash.size
    ids = [entry.chunks[start : start + size] for start in range(0, len(entry.chunks), size)]
    return list(zip(ids, store._repo.chunks.places(ids), strict=True))


def file_of(store: Store, place: Place) -> Path:
    return store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack"


def damage(store: Store, place: Place) -> None:
    flip(file_of(store, place), place.offset + place.length // 2)


def weights(step: int) -> dict[str, torch.Tensor]:
    start = torch.randn(LARGE, generator=torch.Generator().manual_seed(0))
    return {"w": start + step * 1e-5, "same": torch.arange(2000)}


def test_a_sound_store_has_nothing_wrong(store: Store) -> None:
    assert_sound(store)
    store.commit(state(1))
    report = store.fsck()
    assert (report.ok, report.packs, report.commits, report.errors) == (True, 1, 1, ())
    assert report.read_bytes > 0
    assert store.fsck(read_data=False).read_bytes == 0


def test_a_damaged_record_is_named_with_the_commits_and_tensors_that_need_it(store: Store) -> None:
    ids = [store.commit(weights(step)).id for step in range(3)]
    other = store.commit(state(9), branch="other").id
    (first, place), _ = places(store, ids[0], "w")
    damage(store, place)
    report = store.fsck()
    assert not report.ok
    (error,) = [error for error in report.errors if error.record == first.hex()]
    assert error.pack == file_of(store, place).name
    assert set(error.commits) == set(ids)  # those after it hold deltas on it
    assert error.paths == ("w",)
    assert other not in error.commits
    with pytest.raises(CorruptError, match="w cannot be loaded"):
        store.load(ids[2])
    assert equal_states(store.load(ids[2], only="same"), {"same": torch.arange(2000)})
    assert_loads(store, {other: 9})


def test_repair_keeps_good_history_loadable_and_committing_the_same_state_heals(store: Store) -> None:
    old = store.commit(state(1), branch="old").id
    bad = store.commit(weights(0)).id
    good = store.commit({"same": torch.arange(2000)}).id
    (chunk, place), _ = places(store, bad, "w")
    damage(store, place)
    report = store.fsck(repair=True)
    assert not report.ok  # the commit has lost a chunk for good, and fsck goes on saying so
    assert any(bad in error.commits and error.paths == ("w",) for error in report.errors)
    assert all(error.record == chunk.hex() for error in report.errors)
    assert [path.name for path in (store.path / "quarantine").iterdir()] == [file_of(store, place).name]
    assert not file_of(store, place).exists()
    assert report.repaired
    assert_loads(store, {old: 1})
    assert equal_states(store.load(good), {"same": torch.arange(2000)})
    assert equal_states(store.load(bad, only="same"), {"same": torch.arange(2000)})
    with pytest.raises(CorruptError):
        store.load(bad)
    store.commit(weights(0), branch="again")
    assert equal_states(store.load(bad), weights(0))
    assert_sound(store)


def test_committing_the_same_state_on_top_of_the_damaged_one_heals_it_too(store: Store) -> None:
    bad = store.commit(weights(0)).id
    (_, place), _ = places(store, bad, "w")
    damage(store, place)
    assert not store.fsck(repair=True).ok
    store.commit(weights(0))
    assert equal_states(store.load(bad), weights(0))
    assert_sound(store)


@pytest.mark.parametrize("where", ["header", "record header", "footer", "trailer", "cut"])
def test_a_pack_whose_records_are_good_is_made_whole_again(store: Store, where: str) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(3)}
    path = packs(store)[1]
    size = path.stat().st_size
    fmt = store._repo.chunks.files.format
    if where == "cut":
        os.truncate(path, size - 30)
    else:
        flip(
            path,
            {"header": 3, "record header": 20, "footer": size - fmt.trailer_bytes - 7, "trailer": size - 20}[where],
        )
    with castore.open(store.path) as other:
        report = other.fsck()
        assert not report.ok
        assert {error.pack for error in report.errors} == {path.name}
        repaired = other.fsck(repair=True)
        assert repaired.ok, repaired.errors
        assert repaired.repaired
        assert [one.name for one in (store.path / "quarantine").iterdir()] == [path.name]
        assert_loads(other, history)
        assert_sound(other)
    assert_loads(store, history)
    with castore.open(store.path) as again:
        assert_loads(again, history)


def test_a_damaged_footer_does_not_keep_an_index_from_being_rebuilt_and_repaired(store: Store) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(3)}
    path = packs(store)[0]
    flip(path, path.stat().st_size - store._repo.chunks.files.format.trailer_bytes - 1)
    (store.path / "index" / "data.mdb").unlink()
    store.close()
    with castore.open(store.path) as other:
        with pytest.raises((CorruptError, RevisionError)):
            assert_loads(other, history)
        assert other.fsck(repair=True).ok
        assert_loads(other, history)


def test_a_missing_pack_is_reported_with_its_commits_and_repair_keeps_the_rest(store: Store) -> None:
    kept = store.commit(state(1), branch="kept").id
    lost = store.commit({"w": torch.randn(9000), "n": 1}).id
    path = file_of(store, places(store, lost, "w")[0][1])
    path.unlink()
    with castore.open(store.path) as other:
        report = other.fsck()
        assert any(lost in error.commits for error in report.errors)
        assert any(error.pack == path.name for error in report.errors)
        assert not other.fsck(repair=True).ok
        assert_loads(other, {kept: 1})
        assert_loads(other, {other.commit(state(2), branch="kept").id: 2})


def test_a_missing_pack_that_holds_only_data_names_the_tensors(store: Store) -> None:
    first = store.commit(weights(0)).id
    path = file_of(store, places(store, first, "w")[0][1])
    again = store.commit(weights(0)).id
    path.unlink()
    with castore.open(store.path) as other:
        report = other.fsck(read_data=False)
        assert not report.ok
        report = other.fsck()
        assert any(again in error.commits for error in report.errors)


def test_damaged_trees_and_commits_are_reported_not_raised(store: Store) -> None:
    first = store.commit(state(1)).id
    store.commit(state(2))
    index = store._repo.chunks.access.index
    for record in (store.show(first).tree, first):
        place = index.get(bytes.fromhex(record))
        assert place is not None
        damage(store, place)
        with castore.open(store.path) as other:
            report = other.fsck()
            assert any(error.record == record and error.pack for error in report.errors)
            assert any(first in error.commits for error in report.errors)
        damage(store, place)
    assert_sound(store)


def test_damaged_refs_and_reflogs_are_reported_not_raised(store: Store) -> None:
    commit = store.commit(state(1)).id
    for file, text, named in [
        ("refs/heads/broken", "not an id\n", "broken"),
        ("refs/tags/broken", "\0\0", "broken"),
        ("refs/heads/dangling", "ab" * 16 + "\n", "ab" * 16),
        ("HEAD", "garbage", "HEAD"),
        ("logs/refs/heads/main", "garbage\n", "main"),
        ("logs/HEAD", "\xff\n", "HEAD"),
    ]:
        path = store.path / file
        before = path.read_bytes() if path.exists() else None
        path.write_text(text, "latin-1")
        report = store.fsck()
        assert any(named in error.problem for error in report.errors), (file, report.errors)
        assert_loads(store, {commit: 1})
        path.unlink()
        if before is not None:
            path.write_bytes(before)
    assert_sound(store)


def test_an_index_that_is_wrong_is_found_and_repaired(store: Store) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(2)}
    index = store._repo.chunks.access.index
    (chunk, place), *_ = places(store, "main", "frozen")
    wrong = Place(place.pack, place.offset + 1, *(getattr(place, name) for name in Place.__slots__[2:]))
    index.update(records=[(chunk, wrong)])
    report = store.fsck()
    assert any("index" in error.problem for error in report.errors)
    assert store.fsck(repair=True).ok
    assert_loads(store, history)


def test_repair_that_dies_in_the_middle_can_be_done_again(store: Store) -> None:
    from castore.errors import StorageError
    from castore.testing import faults

    history = {store.commit(state(1), branch="good").id: 1}
    bad = store.commit(weights(0)).id
    _, place = places(store, bad, "w")[0]
    damage(store, place)
    for nth in range(1, 100):
        with castore.open(store.path) as other, faults.inject(nth=nth) as fault:
            try:
                other.fsck(repair=True)
            except StorageError:
                assert fault.struck
        with castore.open(store.path) as other:
            assert_loads(other, history)
            assert equal_states(other.load(bad, only="same"), {"same": torch.arange(2000)})
        if not fault.struck:
            break
    else:
        raise AssertionError("repair makes more operations than this test tries")
    with castore.open(store.path) as other:
        other.commit(weights(0), branch="again")
        assert equal_states(other.load(bad), weights(0))
        assert other.fsck(repair=True).ok


def test_a_record_kind_is_no_part_of_its_name(store: Store) -> None:
    """A tensor whose bytes are those of a tree: one record, read as either."""
    store.commit({"a": torch.tensor([5], dtype=torch.uint8)}, branch="tensor")
    store.commit(5, branch="value")
    assert store.load("value") == 5
    assert store.load("tensor")["a"].tolist() == [5]
    assert_sound(store)
    kinds = [place.kind for _, place in store._repo.chunks.access.index.items()]
    assert kinds.count(pack.COMMIT) == 2


def test_of_two_copies_the_good_one_stays_in_service(store: Store) -> None:
    from castore.maintenance.copying import Copier

    commit = store.commit(state(1)).id
    original = packs(store)[0]
    with Copier(store._repo) as copier:
        copier.copy(list(store._repo.chunks.access.index.items())[::-1])
        new, records = copier.publish()
        store._repo.chunks.access.index.update(packs=new, records=records)
    entries = store._repo.chunks.files.footer(bytes.fromhex(original.stem))
    flip(original, entries[0].offset + 1)
    assert_loads(store, {commit: 1})
    report = store.fsck()
    assert [error.pack for error in report.errors] == [original.name]
    assert report.errors[0].commits == ()
    assert store.fsck(repair=True).ok
    assert_loads(store, {commit: 1})
