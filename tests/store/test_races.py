"""Several processes, and gc, at work on one store: nobody loses anything."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

import castore
from castore import dtypes
from castore.chunks.session import Put, WriteSession
from castore.errors import RefConflictError, RevisionError
from castore.testing.states import equal_states
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, incoming, state
from tests.workers import read_report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    castore.open(tmp_path / ".castore", create=True).close()
    return tmp_path / ".castore"


def drop(path: Path, branch: str) -> None:
    """Delete a branch and collect what it alone led to, from another Store."""
    with castore.open(path) as other:
        other.delete_branch(branch, force=True)
        other.gc()


def let_go_once_all_wait(path: Path, start_rivals: Callable[[], Sequence[Any]]) -> Sequence[Any]:
    """Start commits with the store's lock held, and let it go when each has read its parent and written its pack."""
    lock = castore._fs.Lock(path / "lock", 1.0)
    with lock.held():
        rivals = start_rivals()
        while len(list((path / "incoming").iterdir())) < len(rivals):
            os.sched_yield()
    return rivals


def test_of_processes_that_commit_to_one_branch_at_once_exactly_one_wins_each_round(path: Path, tmp_path: Path) -> None:
    history: dict[str, int] = {}
    for number in range(4):
        acks = tmp_path / f"round{number}"
        seeds = range(10 * number, 10 * number + 3)
        rivals = let_go_once_all_wait(
            path, lambda seeds=seeds, acks=acks: [start(workers.commit_once, path, "main", s, acks) for s in seeds]
        )
        finish(rivals)
        lines = read_report(acks)
        assert sorted(commit == "lost" for commit, _ in lines) == [False, True, True]
        history |= {commit: int(seed) for commit, seed in lines if commit != "lost"}
    with castore.open(path) as store:
        assert [commit.id for commit in store.log("main")][::-1] == list(history)
        assert_loads(store, history)
        assert_sound(store)
        assert incoming(store) == []


def test_a_commit_that_lost_the_race_conflicts_and_the_winner_stays(path: Path) -> None:
    class CommitMeanwhile(castore.progress.Silent):
        def finish(self) -> None:
            if not winner:
                winner.append("")
                with castore.open(path) as other:
                    winner[0] = other.commit(state(2)).id

    winner: list[str] = []
    with castore.open(path) as store:
        store.commit(state(0))
    with castore.open(path, progress=CommitMeanwhile()) as store:
        with pytest.raises(RefConflictError, match="main"):
            store.commit(state(1))
        assert store.resolve("main") == winner[0]
        assert_loads(store, {winner[0]: 2})
        assert incoming(store) == []
        store.gc()
        assert_sound(store)


def test_the_command_line_exits_with_7_on_a_conflict(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"x" * 1000)
    command = [sys.executable, "-m", "castore", "-C", str(path), "commit", str(file), "-m", "race"]

    def start_two() -> list[subprocess.Popen[str]]:
        return [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]

    rivals = let_go_once_all_wait(path, start_two)
    said = [rival.communicate(timeout=300)[1] for rival in rivals]
    assert sorted(rival.returncode for rival in rivals) == [0, 7]
    (refusal,) = [line for line in "".join(said).splitlines() if line.startswith("castore:")]
    assert "main" in refusal


def test_processes_on_branches_of_their_own_do_not_disturb_each_other(path: Path, tmp_path: Path) -> None:
    acks = tmp_path / "acknowledged"
    finish([start(workers.commit_many, path, f"b{n}", range(10 * n, 10 * n + 4), acks) for n in range(5)])
    history = {commit: int(seed) for commit, seed in read_report(acks)}
    assert len(history) == 20
    with castore.open(path) as store:
        assert len(store.branches()) == 5
        assert_loads(store, history)
        assert_sound(store)


def test_gc_beside_committers_readers_and_fsck_loses_nothing(path: Path, tmp_path: Path) -> None:
    acks = tmp_path / "acknowledged"
    with castore.open(path) as store:
        history = {store.commit({**state(seed)}, branch="old").id: seed for seed in range(3)}
    finish(
        [
            start(workers.churn, path, "churn", range(40, 52)),
            start(workers.commit_many, path, "main", range(10, 18), acks),
            start(workers.commit_many, path, "main", range(20, 24), acks),
            start(workers.collect, path, 12),
            start(workers.collect, path, 12),
            start(workers.read, path, history, 6),
            start(workers.check, path, 4),
        ]
    )
    history |= {commit: int(seed) for commit, seed in read_report(acks) if commit != "lost"}
    assert len(history) == 15
    with castore.open(path) as store:
        assert_loads(store, history)
        assert_sound(store)
        store.gc()
        assert_loads(store, history)
        assert_sound(store)
        assert incoming(store) == []


class GcInTheMiddle(castore.progress.Silent):
    """Drops a branch, in another Store, once this commit has put all its chunks and before it publishes."""

    def __init__(self, path: Path, branch: str) -> None:
        self.path, self.branch, self.done = path, branch, False

    def finish(self) -> None:
        if not self.done:
            self.done = True
            drop(self.path, self.branch)


def test_a_chunk_that_gc_sweeps_while_a_commit_counts_on_it_is_written_again(path: Path) -> None:
    with castore.open(path) as store:
        store.commit(state(1), branch="doomed")
        store.commit({"other": 1}, branch="main")
    with castore.open(path, progress=GcInTheMiddle(path, "doomed")) as store:
        commit = store.commit(state(1))
        assert_loads(store, {commit.id: 1})
        assert_sound(store)
        store.gc()
        assert_loads(store, {commit.id: 1})
    (path / "index" / "data.mdb").unlink()
    with castore.open(path) as store:
        assert_loads(store, {commit.id: 1})
        assert_sound(store)


def test_a_delta_whose_base_gc_sweeps_under_the_commit_is_written_again_without_it(path: Path) -> None:
    # The commit's parent is what holds the bases, so nothing but its branch can be what is dropped: a session is asked.
    weight = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    with castore.open(path) as store:
        store.commit({"w": weight}, branch="doomed")
        store.commit({"other": 1})
        repo = store._repo
        base = next(one for one, place in repo.chunks.access.index.items() if place.raw_length == 20_000)
        put = Put(memoryview((weight + 1e-4).numpy().tobytes()), dtypes.by_name("float32"), base)

        def publish(session: WriteSession) -> bool:
            session.seal()
            with repo.lock.held():
                if session.swept():
                    return False
                session.publish()
                return True

        with repo.chunks.session() as session:
            (stored,) = session.put_chunks([put])
            assert stored.is_delta
            drop(path, "doomed")
            assert not publish(session)
            (again,) = session.put_chunks([put])
            assert again.id == stored.id
            assert not again.is_delta
            assert again.added_bytes > 0
            assert publish(session)
        assert repo.chunks.chunk(stored.id) == bytes(put.raw)
        assert_sound(store)
    (path / "index" / "data.mdb").unlink()
    with castore.open(path) as store:
        assert store._repo.chunks.chunk(stored.id) == bytes(put.raw)


def test_a_sweep_is_noticed_though_the_index_was_rebuilt_after_it(path: Path) -> None:
    class DropAndRebuild(GcInTheMiddle):
        def finish(self) -> None:
            if not self.done:
                super().finish()
                (self.path / "index" / "data.mdb").unlink()
                castore.open(self.path).close()

    with castore.open(path) as store:
        store.commit({"other": 1})
        store.commit(state(1), branch="doomed")
    with castore.open(path, progress=DropAndRebuild(path, "doomed")) as store:
        commit = store.commit(state(1))
        assert_loads(store, {commit.id: 1})
        assert_sound(store)


def test_no_ref_is_made_to_a_commit_that_gc_has_taken(path: Path) -> None:
    with castore.open(path) as store:
        store.commit({"other": 1})
        doomed = store.commit(state(1), branch="doomed").id
        store.load(doomed)
        drop(path, "doomed")
        for make in (store.branch, store.tag):
            with pytest.raises((RevisionError, castore.errors.MissingError)):
                make("again", doomed)
        assert "again" not in store.branches()
        assert "again" not in store.tags()


def test_a_store_that_was_open_through_a_rewrite_of_its_packs_reads_on(path: Path) -> None:
    with castore.open(path) as reader, castore.open(path) as writer:
        small = {"keep": torch.arange(50)}
        commit = writer.commit(small).id
        writer.commit({**small, "big": torch.randn(20_000)}, branch="doomed")
        writer.commit({"keep": torch.arange(60)}, branch="doomed")
        kept = writer.commit(state(3), branch="other").id
        assert equal_states(reader.load(commit), small)
        for _ in range(2):
            writer.delete_branch("doomed", force=True)
            assert writer.gc().removed_chunks > 0
            reader._repo.chunks.files.close()  # what was open stays readable; now the files must be found again
            assert equal_states(reader.load(commit), small)
            assert_loads(reader, {kept: 3})
            writer.commit({"big": torch.randn(20_000)}, branch="doomed")


def test_processes_that_make_and_open_one_store_at_once_all_get_it(tmp_path: Path) -> None:
    gate, acks = tmp_path / "gate", tmp_path / "acknowledged"
    with gate.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        processes = [start(workers.open_new, tmp_path / "new", gate, acks) for _ in range(6)]
    finish(processes)
    assert len(read_report(acks)) == 6
    assert len({uuid for (uuid,) in read_report(acks)}) == 1


def test_the_same_commit_on_several_branches_is_stored_once(path: Path) -> None:
    with castore.open(path) as store:
        how: dict[str, Any] = {"author": "a", "time": datetime(2024, 1, 1, tzinfo=timezone.utc)}
        store.commit(state(1), branch="one", **how)
        two = store.commit(state(1), branch="two", **how)
        stored = store.stats().stored_bytes
        with castore.open(path) as other:
            assert other.commit(state(1), branch="three", **how).id == two.id
            assert other.last_new_bytes == 0
        assert store.stats().stored_bytes == stored
        assert_loads(store, {store.resolve("three"): 1})
        assert_sound(store)
