"""All that people and upkeep do, by many processes at once: nobody loses anything."""

from __future__ import annotations

from pathlib import Path

import castore
from castore.errors import DroppedError
from castore.testing.states import equal_states
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, incoming, state
from tests.workers import read_report


def test_committers_to_one_branch_and_to_many_beside_gc_repack_and_readers(path: Path) -> None:
    acks = path.parent / "acknowledged"
    with castore.open(path) as store:
        old = {store.commit(state(seed), branch="old", step=seed).id: seed for seed in range(4)}
    committers = [("main", range(10, 15)), ("main", range(20, 25)), ("main", range(30, 35)), ("b1", range(12, 17))]
    finish(
        [
            *(start(workers.commit_steps, path, branch, seeds, acks) for branch, seeds in committers),
            start(workers.churn, path, "churn", range(40, 52)),
            start(workers.collect, path, 8),
            start(workers.repack, path, 8),
            start(workers.read_one_store, path, old, "main", 8),
            start(workers.read_one_store, path, old, "b1", 8),
        ]
    )
    made: dict[str, dict[str, int]] = {}
    for branch, commit, seed in read_report(acks):
        made.setdefault(branch, {})[commit] = int(seed)
    with castore.open(path) as store:
        for branch, history in made.items():
            assert {commit.id for commit in store.log(branch)} == history.keys()
            assert_loads(store, history)
        assert [len(history) for _, history in sorted(made.items())] == [5, 15]
        assert_loads(store, old)
        assert_sound(store)
        store.gc()
        assert incoming(store) == []
        assert_loads(store, old)
        assert_sound(store)


def test_committers_beside_prune_and_gc_keep_every_commit_and_lose_only_states_that_rules_drop(path: Path) -> None:
    acks = path.parent / "acknowledged"
    with castore.open(path) as store:
        pinned = store.commit(state(1), branch="main", step=1).id
        store.pin(pinned)
    finish(
        [
            start(workers.commit_steps, path, "main", range(10, 17), acks),
            start(workers.commit_steps, path, "main", range(20, 27), acks),
            start(workers.prune_and_collect, path, 6),
            start(workers.repack, path, 6),
        ]
    )
    history = {commit: int(seed) for _, commit, seed in read_report(acks)}
    with castore.open(path) as store:
        assert {commit.id for commit in store.log("main")} == history.keys() | {pinned}
        dropped = store.drops()
        for commit, seed in history.items():
            try:
                assert equal_states(store.load(commit), state(seed))
            except DroppedError:
                assert commit in dropped
        assert_loads(store, {pinned: 1, "main": history[store.resolve("main")]})
        assert_sound(store)
