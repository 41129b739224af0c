"""The index is derived: whatever happens to it, the next use makes it anew, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import castore
from castore import limits
from castore.chunks.environment import IndexDamagedError
from castore.chunks.index import Index, Place
from castore.store import Store
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, state
from tests.workers import read_report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".castore"


@pytest.fixture
def history(path: Path) -> dict[str, int]:
    with castore.open(path, create=True) as store:
        return {store.commit(state(seed)).id: seed for seed in range(4)}


def _delete(index: Path) -> None:
    shutil.rmtree(index)


def _delete_data(index: Path) -> None:
    (index / "data.mdb").unlink()


def _truncate(index: Path) -> None:
    os.truncate(index / "data.mdb", (index / "data.mdb").stat().st_size // 2)


def _empty(index: Path) -> None:
    os.truncate(index / "data.mdb", 0)


def _garbage(index: Path) -> None:
    (index / "data.mdb").write_bytes(os.urandom(60_000))


def _zeros(index: Path) -> None:
    (index / "data.mdb").write_bytes(bytes(60_000))


def _other_boot(index: Path) -> None:
    (index / "boot").write_text("00000000-0000-0000-0000-000000000000\n")


def _boot_garbage(index: Path) -> None:
    (index / "boot").write_bytes(b"\xff\x00\xfe")


def _lock_garbage(index: Path) -> None:
    (index / "lock.mdb").write_bytes(os.urandom(8192))


def _file_instead(index: Path) -> None:
    shutil.rmtree(index)
    index.write_bytes(b"not a directory")


DAMAGE = [
    *(_delete, _delete_data, _truncate, _empty, _garbage, _zeros),
    *(_other_boot, _boot_garbage, _lock_garbage, _file_instead),
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__.strip("_"))
def test_the_next_open_rebuilds_a_damaged_index(
    path: Path, history: dict[str, int], damage: Callable[[Path], None]
) -> None:
    damage(path / "index")
    with castore.open(path) as store:
        assert_loads(store, history)
        history[store.commit(state(9)).id] = 9
        assert_loads(store, history)
        assert_sound(store)
    assert [entry.name for entry in path.glob("index*")] == ["index"]


def test_an_index_deleted_under_an_open_store_is_made_anew(path: Path, history: dict[str, int]) -> None:
    with castore.open(path) as store:
        shutil.rmtree(path / "index")
        assert_loads(store, history)
        history[store.commit(state(9)).id] = 9
        assert_loads(store, history)
        assert_sound(store)
    with castore.open(path) as store:
        assert_loads(store, history)


def test_what_a_crash_left_of_a_rebuild_is_removed_by_the_next(path: Path, history: dict[str, int]) -> None:
    shutil.copytree(path / "index", path / "index.1.tmp")
    shutil.rmtree(path / "index")
    with castore.open(path) as store:
        assert_loads(store, history)
    assert [entry.name for entry in path.glob("index*")] == ["index"]


def test_an_index_replaced_by_another_process_is_followed(path: Path, history: dict[str, int], tmp_path: Path) -> None:
    acks = tmp_path / "acknowledged"
    with castore.open(path) as store:
        assert_loads(store, history)
        finish([start(workers.rebuild_index, path)])
        finish([start(workers.commit_many, path, "main", [20, 21], acks)])
        history |= {commit: int(seed) for commit, seed in read_report(acks)}
        assert_loads(store, history)
        history[store.commit(state(9)).id] = 9
        finish([start(workers.read, path, history, 1)])
        assert_sound(store)


def test_the_map_grows_while_other_processes_have_it_open(
    path: Path, history: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(path / "index")
    monkeypatch.setattr(limits, "INDEX_MAP_BYTES", 1 << 16)
    acks = tmp_path / "acknowledged"
    with castore.open(path) as store, castore.open(path) as twin:
        size = store._repo.chunks.access.index._acquire().env.info()["map_size"]
        import torch

        many = {f"t{number}": torch.tensor([number]) for number in range(1500)}
        commit = store.commit(many, branch="many")
        assert store._repo.chunks.access.index._acquire().env.info()["map_size"] > size
        assert len(twin.load("many")) == 1500
        finish([start(workers.commit_many, path, "main", list(range(30, 36)), acks)])
        history |= {commit: int(seed) for commit, seed in read_report(acks)}
        assert_loads(store, history)
        assert_loads(twin, history)
        assert store.resolve("many") == commit.id
        assert_sound(twin)


def test_an_index_grows_under_its_own_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INDEX_MAP_BYTES", 1 << 16)
    index = Index(tmp_path, 16)
    place = Place(b"p" * 16, 100, 10, 10, 1, 1, 0, 0, ())
    ids = [number.to_bytes(16, "big") for number in range(500)]
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                found = index.get_many(ids[:5])
                assert all(one in (None, place) for one in found)
        except BaseException as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    size = index._acquire().env.info()["map_size"]
    for begin in range(0, len(ids), 100):
        index.update(records=[(one, place) for one in ids[begin : begin + 100]])
    done.set()
    assert index._acquire().env.info()["map_size"] > size
    reader.join()
    assert failures == []
    assert [record_id for record_id, _ in index.items()] == ids
    assert [record_id for record_id, _ in index.items(ids[300][:15])] == ids[256:500]
    index.close()


def test_two_stores_on_one_path_in_one_process_see_each_other(path: Path, history: dict[str, int]) -> None:
    with castore.open(path) as one, castore.open(path) as other:
        for seed in range(10, 14):
            one, other = other, one
            history[one.commit(state(seed)).id] = seed
            assert_loads(other, history)
        one.close()
        history[other.commit(state(20)).id] = 20
        assert_loads(other, history)


def test_threads_commit_to_branches_of_their_own_through_one_store(path: Path, history: dict[str, int]) -> None:
    found: dict[str, int] = {}
    with castore.open(path) as store:

        def commit(branch: int) -> None:
            for seed in range(branch * 10, branch * 10 + 4):
                found[store.commit(state(seed), branch=f"b{branch}").id] = seed

        threads = [threading.Thread(target=commit, args=(branch,)) for branch in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 16
        assert_loads(store, history | found)
        assert_sound(store)


def test_a_forked_child_loads_and_commits_through_the_store_its_parent_opened(
    path: Path, history: dict[str, int], tmp_path: Path
) -> None:
    acks = tmp_path / "acknowledged"
    finish([start(workers.fork_with_open_store, path, history, acks)])
    found = {commit: int(seed) for commit, seed in read_report(acks)}
    assert sorted(found.values()) == [50, 51, 52]
    with castore.open(path) as store:
        assert_loads(store, history | found)
        assert_sound(store)


def test_a_lock_is_let_go_though_a_child_was_forked_while_it_was_held(path: Path, history: dict[str, int]) -> None:
    store = castore.open(path)
    reading, writing = os.pipe()
    with store._repo.lock.held():
        child = os.fork()
        if child == 0:  # a data loader's worker: it lives on with all that was open
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    os.close(reading)
    try:
        with castore.store.Store(path) as other:
            other._repo.lock._timeout_s = 5.0
            history[other.commit(state(9)).id] = 9
    finally:
        os.close(writing)
        os.waitpid(child, 0)
    assert_loads(store, history)
    store.close()


def test_a_reader_that_was_killed_as_it_read_pins_no_pages_once_somebody_writes(
    path: Path, history: dict[str, int]
) -> None:
    def in_a_child(work: Callable[[Store], object]) -> int:
        child = os.fork()
        if child == 0:
            kept = work(castore.open(path))
            os._exit(0 if kept is None else 9)  # as SIGKILL does it: nothing is closed
        os.waitpid(child, 0)
        return child

    def readers() -> str:
        return str(store._repo.chunks.access.index._acquire().env.readers())

    with castore.open(path) as store:  # whoever is the only one to open an index begins with an empty table
        before = (path / "index" / "data.mdb").stat().st_ino
        killed = in_a_child(lambda other: other._repo.chunks.access.index._acquire().env.begin())
        assert str(killed) in readers()
        in_a_child(lambda other: None)
        history[store.commit(state(9)).id] = 9
        assert str(killed) not in readers()
        assert (path / "index" / "data.mdb").stat().st_ino == before  # a child of fork makes no index of its own
        assert_loads(store, history)


def test_a_reader_takes_in_a_pack_that_the_index_does_not_know(path: Path, history: dict[str, int]) -> None:
    with castore.open(path) as store:
        shutil.copytree(path, path.parent / "copy")
        commit = store.commit(state(9)).id
        with castore.open(path.parent / "copy") as copy:
            for pack in (path / "packs").glob("*/*.pack"):
                target = path.parent / "copy" / pack.relative_to(path)
                target.parent.mkdir(exist_ok=True)
                shutil.copy(pack, target)
            assert_loads(copy, history | {commit: 9})
            assert Store(copy.path).fsck().ok


def test_a_place_has_any_number_of_bases_and_an_index_of_before_there_were_several_reads_the_same(
    tmp_path: Path,
) -> None:
    index = Index(tmp_path, 16)
    bases = [bytes([number]) * 16 for number in range(limits.MAX_BASES)]
    places = [Place(b"p" * 16, 100, 10, 20, 7, 1, 2, 18, tuple(bases[:number]), 3) for number in range(5)]
    ids = [bytes([200 + number]) * 16 for number in range(5)]
    index.update(records=list(zip(ids, places, strict=True)))
    assert index.get_many(ids) == places
    assert list(index.items()) == list(zip(ids, places, strict=True))
    head = struct.pack("<QIIQBBBB", 100, 10, 20, 7, 1, 2, 18, 3) + b"p" * 16
    with index._acquire().transaction(write=True) as txn:
        values = (head, head + bases[0], head[:-1], head + b"x", head + b"".join(bases) * 2)
        for record_id, value in zip(ids, values, strict=True):
            txn.put(record_id, value, db=index._acquire().records)
    assert index.get_many(ids[:2]) == places[:2]
    for record_id in ids[2:]:
        with pytest.raises(IndexDamagedError):
            index.get(record_id)
    index.close()
