"""Clocks that jump take nothing away: what goes by time is kept where a clock was wrong."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import castore
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, incoming, state

LONG = 300  # days


def test_what_a_reset_left_stays_for_its_time_though_the_clock_was_behind_when_it_was_made(path: Path) -> None:
    with castore.open(path) as store:
        first = store.commit(state(1)).id
        finish([start(workers.at_another_time, path, -LONG, workers.commit_two)])
        left = store.resolve("main")
        store.branch("main", first, force=True)
        assert store.expire_reflog(None, datetime.now(timezone.utc) - timedelta(days=30)) == 0
        store.gc()
        assert_loads(store, {first: 1, left: 3, "main@{1}": 3, "main@{2}": 2})


def test_whatever_the_clocks_of_committers_and_upkeep_say_history_is_in_order_and_whole(path: Path) -> None:
    with castore.open(path) as store:
        history = {store.commit(state(0), step=0).id: 0}
        for days in (LONG, -LONG, 0, 2, -2):  # upkeep never agrees with a clock that was ahead
            finish([start(workers.at_another_time, path, days, workers.commit_two)])
            finish([start(workers.at_another_time, path, min(0, -days), workers.keep_up)])
            newest = [commit.id for commit in store.log("main", 2)]
            history |= {newest[1]: 2, newest[0]: 3}
        assert [commit.id for commit in store.log("main")] == list(history)[::-1]
        logged = [entry.new for entry in store.reflog("main")]
        assert logged == list(history)[::-1][: len(logged)]
        assert_loads(store, history)
        assert_sound(store)


def test_a_file_that_is_being_written_is_nobodys_leftover_whatever_the_clock(path: Path) -> None:
    with castore.open(path) as store:
        store.commit(state(1))
        with store.repository.chunks.session() as session:
            session.put_object(3, b"\x80")
            finish([start(workers.at_another_time, path, LONG, workers.keep_up)])
            assert len(incoming(store)) == 1


def test_a_load_by_a_clock_that_is_behind_does_not_make_a_state_count_as_long_unused(path: Path) -> None:
    with castore.open(path) as store:
        used = store.commit(state(1)).id
        store.commit(state(2))
        store.commit(state(3))
        store.load(used)
        finish([start(workers.at_another_time, path, -LONG, workers.load_all)])
        store.prune({"keep_accessed": "30d"})
        assert_loads(store, {used: 1})
