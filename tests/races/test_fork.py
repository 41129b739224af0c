"""A process that forks with a store open and in use: parent and children go on with it."""

from __future__ import annotations

from pathlib import Path

import castore
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, state
from tests.workers import read_report


def test_children_and_parent_go_on_with_an_open_store_at_once(path: Path) -> None:
    acks = path.parent / "acknowledged"
    with castore.open(path) as store:
        history = {store.commit(state(seed), branch="old").id: seed for seed in range(3)}
        index = (path / "index/data.mdb").stat().st_ino
        finish([start(workers.fork_and_go_on, path, history, range(50, 56), acks)])
        history |= {commit: int(seed) for commit, seed in read_report(acks)}
        assert len(history) == 3 + 2 * 6
        assert_loads(store, history)
        assert_sound(store)
        assert (path / "index/data.mdb").stat().st_ino == index, "a child has made the index anew"
