"""A crash at any instant leaves the old history or the new one, and no manual step."""

from __future__ import annotations

import random
from pathlib import Path

import castore
from castore.testing import faults
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, incoming, packs, state
from tests.workers import read_report


def acknowledged(file: Path) -> dict[str, int]:
    return {commit: int(seed) for commit, seed in read_report(file)}


def test_every_acknowledged_commit_survives_twenty_kills(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    castore.open(path, create=True).close()
    rng = random.Random(5)
    for number in range(20):
        process = start(workers.commit_until_killed, path, "main", 100 * number, rng.uniform(0.001, 0.1), acks)
        process.join(300)
        assert process.exitcode == -14  # by the signal, in the midst of its work
    with castore.open(path) as store:
        history = acknowledged(acks)
        assert len(history) > 20
        assert_loads(store, history)
        assert set(history) <= {commit.id for commit in store.log("main")}
        assert_sound(store)
        store.gc()
        assert incoming(store) == []
        assert_loads(store, history)
        assert_sound(store)


def test_death_at_each_operation_of_a_commit_leaves_the_old_or_the_new_history(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    with castore.open(path, create=True) as store:
        first = store.commit(state(1))
        with faults.record() as recorded:
            store.commit(state(2), branch="trial")
    seen = []
    history = {first.id: 1}
    for nth in range(1, len(recorded.operations) + 6):
        process = start(workers.commit_until_death, path, 10 + nth, nth, acks)
        process.join(300)
        with castore.open(path) as store:
            tip = store.show("main")
            if tip.id not in history:
                history[tip.id] = 10 + nth
                assert tip.parents == (list(history)[-2],)
            seen.append((process.exitcode, tip.id in acknowledged(acks), tip.message))
            assert_loads(store, {tip.id: history[tip.id]})
            assert store.fsck(read_data=True).ok
            with store.repository.lock.held():
                pass  # syncs what the dead holder may not have: the next process has a commit's operations, no more
    assert [code for code, _, _ in seen][:3] == [9, 9, 9]
    assert seen[-1][:2] == (0, True)
    with castore.open(path) as store:
        store.gc()
        assert incoming(store) == []
        assert [p.name for p in path.rglob("*.tmp")] == []
        assert_loads(store, history)
        assert_sound(store)


def test_death_at_each_operation_of_gc_loses_nothing_and_the_next_gc_finishes(tmp_path: Path) -> None:
    path = tmp_path / ".castore"
    with castore.open(path, create=True) as store:
        kept = store.commit(state(1))
        history = {kept.id: 1}
    for nth in range(1, 40):
        with castore.open(path) as store:
            store.commit({**state(1), "more": state(nth)}, branch="rest")
            store.delete_branch("rest", force=True)
            before = len(packs(store))
        process = start(workers.collect_until_death, path, nth)
        process.join(300)
        with castore.open(path) as store:
            assert_loads(store, history)
            if process.exitcode == 0:
                break
    else:
        raise AssertionError("gc makes more operations than this test tries")
    with castore.open(path) as store:
        store.gc()
        assert store.stats().commits == 1
        assert len(packs(store)) <= before
        assert store.gc(dry_run=True).removed_chunks == 0
        fresh = castore.open(tmp_path / "fresh", create=True)
        fresh.commit(state(1))
        assert store.stats().stored_bytes <= 2 * fresh.stats().stored_bytes
        assert_sound(store)


def test_a_full_file_system_of_the_operating_systems_own_making_costs_one_commit(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    with castore.open(path, create=True) as store:
        first = store.commit(state(0))
    finish([start(workers.commit_beyond_file_size, path, 200_000, acks)])
    refused, last = read_report(acks)
    assert refused[0] == "refused"
    with castore.open(path) as store:
        assert incoming(store) == []
        assert_loads(store, {first.id: 0, last[0]: 2})
        assert_sound(store)
