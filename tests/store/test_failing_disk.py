"""A disk that fails or is full: the commit is refused, and what was committed before is unharmed."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

import castore
from castore.chunks import blocks
from castore.errors import StorageError
from castore.store import Store
from castore.testing import faults
from tests.samples import LARGE, assert_loads, assert_sound, incoming, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_operation_of_a_commit_may_fail(store: Store, error: int) -> None:
    history = {store.commit(state(1)).id: 1}
    refused = 0
    for nth in itertools.count(1):
        seed = 10 + nth
        before = store.resolve("main")
        with faults.inject(nth=nth, error=error) as fault:
            try:
                commit = store.commit(state(seed))
            except StorageError as caught:
                assert "\n" not in str(caught)
                refused += 1
            else:
                history[commit.id] = seed
        if not fault.struck:
            break
        assert incoming(store) == []
        if (now := store.resolve("main")) != before:
            history[now] = seed  # the ref had been renamed when its directory could not be synced
        assert_loads(store, {before: history[before], now: history[now]})
        history[store.commit(state(seed + 100)).id] = seed + 100
    assert refused >= 12
    assert_loads(store, history)
    assert_sound(store)


def test_a_disk_that_stays_full_refuses_every_commit_until_there_is_room(store: Store) -> None:
    history = {store.commit(state(1)).id: 1}
    with faults.inject("write", error=errno.ENOSPC, after=True):
        for seed in (2, 3):
            with pytest.raises(StorageError, match="the disk is full"):
                store.commit(state(seed))
    assert store.resolve("main") in history
    history[store.commit(state(2)).id] = 2
    assert_loads(store, history)
    assert_sound(store)


@pytest.mark.parametrize("effort", ["full", "fast"])
@pytest.mark.parametrize("nth", [1, 2, 5])
def test_short_writes_are_continued(store: Store, monkeypatch: pytest.MonkeyPatch, nth: int, effort: str) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64 << 10)  # for as many writes as a state of many blocks has
    with faults.inject("short_write", nth) as fault:
        commit = store.commit(state(1, LARGE), effort=effort)
    assert fault.struck
    writes = [one for one in fault.operations if one.name in ("write", "append")]
    assert writes[nth - 1].name == writes[nth].name == "write"  # the rest of what was cut short
    assert_loads(store, {commit.id: 1}, LARGE)
    assert_sound(store)


def test_each_operation_of_gc_may_fail(store: Store) -> None:
    history = {store.commit(state(1)).id: 1}
    for nth in range(1, 60):
        store.commit({**state(1), "more": state(nth)}, branch="rest")
        store.delete_branch("rest", force=True)
        with faults.inject(nth=nth, error=errno.EIO) as fault:
            try:
                store.gc()
            except StorageError:
                assert fault.struck
        assert_loads(store, history)
        if not fault.struck:
            break
    else:
        raise AssertionError("gc makes more operations than this test tries")
    assert_sound(store)
    store.gc()
    assert store.gc(dry_run=True).removed_chunks == 0
    assert_loads(store, history)


def test_each_operation_of_making_a_store_may_fail(tmp_path: Path) -> None:
    with faults.record() as recorded:
        castore.open(tmp_path / "trial", create=True).close()
    passed = []
    for nth, operation in enumerate(recorded.operations, 1):
        place = tmp_path / f"store{nth}"
        with faults.inject(nth=nth) as fault:
            try:
                castore.open(place, create=True).close()
            except StorageError:
                pass
            else:
                passed.append(operation.name)
        assert fault.struck
        with castore.open(place, create=True) as store:
            assert_loads(store, {store.commit(state(1)).id: 1})
    assert set(passed) <= {"resize"}  # a mark that stays on the lock costs whoever takes it next some syncs, no more


def test_an_exception_in_the_middle_of_a_commit_leaves_no_file(store: Store) -> None:
    class Interrupting(castore.progress.Silent):
        def advance(self, amount: int) -> None:
            raise KeyboardInterrupt

    store.commit(state(1))
    before = sorted(store.path.rglob("*.pack"))
    with castore.open(store.path, progress=Interrupting()) as other, pytest.raises(KeyboardInterrupt):
        other.commit(state(2, LARGE))
    assert sorted(store.path.rglob("*.pack")) == before
    assert store.last_new_bytes > 0
    assert_sound(store)
