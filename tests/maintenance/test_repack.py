"""repack changes where records lie and what they stand on, and nothing that anybody reads."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import castore
from castore.chunks.closure import depths
from castore.errors import LockTimeoutError, StorageError
from castore.maintenance.repacking.record_survey import survey_records
from castore.objects import nodes
from castore.store import Store
from castore.testing import faults
from castore.testing.states import equal_states
from castore.training.commits import Commits
from tests import workers
from tests.processes import finish, start
from tests.samples import LARGE, assert_loads, assert_sound, flip, incoming, packs, state
from tests.workers import read_report

LATER = 1000  # seeds of other histories


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def commit_states(store: Store, seeds: range, branch: str = "main") -> dict[str, int]:
    return {store.commit(state(seed), branch=branch, step=seed).id: seed for seed in seeds}


def depths_of(store: Store, rev: str) -> set[int]:
    """How deep the chunks of a commit's tensors lie."""
    chunks = {
        entry.chunks[start : start + 16]
        for _, entry in nodes.tensors(store._repo.tree(store.show(rev)))
        for start in range(0, len(entry.chunks), 16)
    }
    decoder = store._repo.chunks.decoder
    ids = sorted(chunks)
    found = depths(decoder.closure(dict(zip(ids, decoder.places(ids), strict=True))))
    return {found[one] for one in ids}


def chunks_at(store: Store, rev: str, *path: str) -> bytes:
    """The ids of a tensor's chunks; its state may have been dropped."""
    root = store._repo.tree_reader().read(bytes.fromhex(store.show(rev).tree))
    return next(entry.chunks for where, entry in nodes.tensors(root) if where == path)


def snapshot(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in packs(store)}


def test_the_newest_state_stands_alone_and_old_ones_lie_deep(store: Store) -> None:
    history = commit_states(store, range(1, 12))
    before = store.stats().stored_bytes
    assert depths_of(store, "main") == {0, 1}
    report = store.repack()
    assert report.encoded_chunks > 0 and report.finished and not report.damaged
    assert depths_of(store, "main") == {0}
    assert 3 <= max(depths_of(store, "main~8")) <= 8
    assert store.stats().stored_bytes < before
    assert len(packs(store)) == report.after_packs == 1
    assert_loads(store, history)
    assert_sound(store)


def test_a_second_repack_does_nothing(store: Store) -> None:
    history = commit_states(store, range(1, 8))
    history.update(commit_states(store, range(20, 25), "side"))
    store.repack()
    before = snapshot(store)
    report = store.repack()
    assert (report.encoded_chunks, report.moved_records) == (0, 0)
    assert snapshot(store) == before
    assert_loads(store, history)


def test_a_dry_run_says_what_would_be_encoded_and_changes_nothing(store: Store) -> None:
    commit_states(store, range(1, 8))
    before = snapshot(store)
    would = store.repack(dry_run=True)
    assert snapshot(store) == before
    done = store.repack()
    assert would.encoded_chunks == done.encoded_chunks > 0
    assert would.encoded_bytes == done.encoded_bytes
    assert store.repack(dry_run=True).encoded_chunks == 0


def test_settings_bound_the_depth_and_say_how_many_states_stand_alone(store: Store) -> None:
    config = store.path / "castore.toml"
    config.write_text(config.read_text().replace("newest = 1\nmax_depth = 8", "newest = 3\nmax_depth = 2"))
    with castore.open(store.path) as store:
        history = commit_states(store, range(1, 12))
        store.repack()
        for rev in ("main", "main~1", "main~2"):
            assert depths_of(store, rev) == {0}
        deep = [max(depths_of(store, f"main~{n}")) for n in range(3, 11)]
        assert max(deep) == 2 and min(deep) >= 1
        assert_loads(store, history)


def test_a_commits_tier_bounds_the_depth_of_its_chunks(store: Store) -> None:
    config = store.path / "castore.toml"
    config.write_text(config.read_text() + "\n[tiers.shallow]\nmax_depth = 1\n[tiers.deep]\nmax_depth = 5\n")
    with castore.open(store.path) as store:
        history = {
            store.commit(state(seed), tier="shallow" if seed % 3 == 0 else "deep").id: seed for seed in range(1, 13)
        }
        store.repack()
        for commit, seed in history.items():
            assert max(depths_of(store, commit)) <= (1 if seed % 3 == 0 else 5)
        assert max(max(depths_of(store, commit)) for commit in history) > 1
        assert store.repack().encoded_chunks == 0
        assert_loads(store, history)


def test_newer_commits_come_on_top_of_what_was_placed(store: Store) -> None:
    history = commit_states(store, range(1, 10))
    first = store.repack().encoded_chunks
    for seed in range(30, 36):
        history.update(commit_states(store, range(seed, seed + 1)))
        assert store.repack().encoded_chunks < first
        assert depths_of(store, "main") == {0}
    assert survey_records(store._repo).deepest <= 8
    assert_loads(store, history)
    assert_sound(store)


def test_a_dropped_state_that_lay_below_kept_ones_is_freed(store: Store) -> None:
    history = commit_states(store, range(1, 8))
    store.prune({"keep_last": 3})
    kept = {commit: seed for commit, seed in history.items() if seed > 4}
    base = chunks_at(store, "main~6", "model", "weight")
    store.gc()
    assert store._repo.chunks.access.index.get(base) is not None
    store.repack()
    before = sum(path.stat().st_size for path in packs(store))
    freed = store.gc().freed_bytes
    assert freed > 10_000
    assert store._repo.chunks.access.index.get(base) is None
    assert sum(path.stat().st_size for path in packs(store)) == before - freed
    assert_loads(store, kept)
    assert_sound(store)
    assert store.repack().encoded_chunks == 0


def test_what_is_left_of_a_state_that_lost_components_is_placed_too(store: Store) -> None:
    history = commit_states(store, range(1, 6))
    store.prune({"drop_components": "model"})
    store.gc()
    store.repack()
    store.gc()
    for commit, seed in history.items():
        whole = store.show(commit).id == store.resolve("main")
        only = None if whole else ["tied", "frozen", "note"]
        expected = state(seed) if whole else {name: state(seed)[name] for name in only or ()}
        assert equal_states(store.load(commit, only=only), expected)
    assert_sound(store)


def test_branches_and_merges_share_what_they_have_in_common(store: Store) -> None:
    history = commit_states(store, range(1, 5))
    store.branch("side", "main~1")
    history.update(commit_states(store, range(40, 45), "side"))
    history.update(commit_states(store, range(5, 8)))
    store.tag("kept", "main~2")
    store.repack()
    assert depths_of(store, "main") == depths_of(store, "side") == {0}
    assert store.repack().encoded_chunks == 0
    assert_loads(store, history)
    assert_sound(store)


def test_a_model_next_to_another_branchs_newest_stays_a_delta_to_it(store: Store) -> None:
    base = torch.randn(300_000, generator=torch.Generator().manual_seed(1))
    store.commit({"weight": base}, branch="base")
    store.commit({"tuned": base + 1e-4}, branch="tuned")
    assert depths_of(store, "tuned") == {1}
    before = store.stats().stored_bytes
    store.repack()
    assert depths_of(store, "base") == {0} and depths_of(store, "tuned") == {1}
    assert store.stats().stored_bytes <= before
    assert equal_states(store.load("tuned"), {"tuned": base + 1e-4})


def test_steps_that_an_optimizers_formula_foretells_stay_small(store: Store) -> None:
    torch.manual_seed(3)
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    states = []
    for step in range(8):
        optimizer.zero_grad()
        model(torch.randn(64, 300)).pow(2).mean().backward()
        optimizer.step()
        found = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        states.append(store.load(store.commit(found, step=step).id))
    before = store.stats().stored_bytes
    report = store.repack()
    assert report.after_bytes <= 1.15 * before
    assert depths_of(store, "main") == {0}
    assert store.repack().encoded_chunks == 0
    for step, expected in enumerate(states):
        assert equal_states(store.load(f"main:step={step}"), expected)
    assert_sound(store)


def test_what_commits_in_haste_left_raw_is_coded(tmp_path: Path) -> None:
    taken = {}
    for effort in ("full", "fast"):
        with castore.open(tmp_path / effort, create=True) as store:
            commits = Commits(store, worker="thread", effort=effort)
            for seed in range(4):
                commits.commit(state(seed, 1 << 18))
                commits.wait()
            commits.close()
            store.repack()
            assert depths_of(store, "main") == {0}
            assert store.repack().encoded_chunks == 0
            taken[effort] = store.stats().stored_bytes
            for seed in range(4):
                assert equal_states(store.load(f"main~{3 - seed}"), state(seed, 1 << 18))
    assert taken["fast"] <= 1.02 * taken["full"]


def test_chunks_that_can_not_be_decoded_are_left_alone_and_named(store: Store) -> None:
    history = commit_states(store, range(1, 6))
    chunk = chunks_at(store, "main~2", "model", "weight")
    place = store._repo.chunks.access.index.get(chunk)
    assert place is not None
    flip(store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack", place.offset + 9)
    report = store.repack()
    assert list(report.damaged) == [chunk.hex()]
    assert store._repo.chunks.access.index.get(chunk) == place
    assert_loads(store, {commit: seed for commit, seed in history.items() if seed != 3})
    assert store.repack().encoded_chunks == 0


def test_a_time_that_is_over_ends_it_between_batches_and_the_next_one_goes_on(store: Store) -> None:
    history = commit_states(store, range(1, 40))
    rounds = 0
    while not (report := store.repack(seconds=0)).finished:
        assert report.encoded_chunks > 0
        rounds += 1
        assert_sound(store)
    assert rounds > 1
    assert store.repack().encoded_chunks == 0
    assert len(packs(store)) == 1
    assert_loads(store, history)


def test_large_states_are_placed_chunk_by_chunk(store: Store) -> None:
    history = {store.commit(state(seed, LARGE)).id: seed for seed in range(5)}
    store.repack()
    assert_loads(store, history, LARGE)
    assert depths_of(store, "main") == {0}
    assert depths_of(store, "main~2") == {0, 2}


def test_two_repacks_at_once_are_one_too_many(store: Store) -> None:
    commit_states(store, range(1, 5))

    class Second(castore.progress.Silent):
        def start(self, phase: str, total: int | None, unit: str) -> None:
            with castore.open(store.path) as other, pytest.raises(LockTimeoutError, match="another repack"):
                other.repack()

    with castore.open(store.path, progress=Second()) as first:
        assert first.repack().finished


def test_a_plan_that_gc_overtook_is_made_again(store: Store) -> None:
    history = commit_states(store, range(1, 8))
    store.commit(state(99), branch="doomed")
    store.delete_branch("doomed", force=True)
    done = []

    class Collecting(castore.progress.Silent):
        def start(self, phase: str, total: int | None, unit: str) -> None:
            if phase == "Encoding" and not done:
                with castore.open(store.path) as other:
                    done.append(other.gc().removed_chunks)

    with castore.open(store.path, progress=Collecting()) as first:
        assert first.repack().finished
    assert done[0] > 0
    assert_loads(store, history)
    assert_sound(store)


def test_a_commit_made_meanwhile_stands_on_chunks_that_move(store: Store) -> None:
    history = commit_states(store, range(1, 8))

    class Committing(castore.progress.Silent):
        def advance(self, amount: int) -> None:
            if len(history) < 12:
                with castore.open(store.path) as other:
                    rev = "main" if len(history) % 2 else "main~4"
                    branch = f"b{len(history)}"
                    other.branch(branch, rev)
                    history.update(commit_states(other, range(LATER + len(history), LATER + len(history) + 1), branch))

    with castore.open(store.path, progress=Committing()) as first:
        first.repack()
    assert len(history) == 12
    assert_loads(store, history)
    store.repack()
    assert_loads(store, history)
    assert_sound(store)


def test_repack_beside_commits_readers_gc_and_another_repack(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    with castore.open(path, create=True) as store:
        history = commit_states(store, range(1, 8))
    finish(
        [
            start(workers.repack, path, 6),
            start(workers.repack, path, 6),
            start(workers.commit_many, path, "main", range(LATER, LATER + 12), acks),
            start(workers.churn, path, "rest", range(2 * LATER, 2 * LATER + 8)),
            start(workers.read, path, history, 6),
            start(workers.collect, path, 6),
            start(workers.check, path, 3),
        ]
    )
    with castore.open(path) as store:
        history.update({commit: int(seed) for commit, seed in read_report(acks) if commit != "lost"})
        assert_loads(store, history)
        store.repack()
        store.gc()
        assert incoming(store) == []
        assert_loads(store, history)
        assert_sound(store)


def test_death_at_each_operation_loses_nothing_and_the_next_repack_finishes(tmp_path: Path) -> None:
    path = tmp_path / ".castore"
    with castore.open(path, create=True) as store:
        history = commit_states(store, range(1, 20))
    for nth in range(1, 200, 3):
        process = start(workers.repack_until_death, path, nth)
        process.join(300)
        with castore.open(path) as store:
            if nth % 2 == 0:
                store._repo.chunks.access.rebuild()  # the index may be lost as well, and meets records in two packs
            assert_loads(store, history)
            assert_sound(store)
            if process.exitcode == 0:
                break
            history.update(commit_states(store, range(LATER + nth, LATER + nth + 1)))
    else:
        raise AssertionError("repack makes more operations than this test tries")
    with castore.open(path) as store:
        store.gc()
        assert incoming(store) == []
        store.repack()
        assert len(packs(store)) == 1
        assert store.repack().encoded_chunks == 0
        assert survey_records(store._repo).deepest <= 8
        assert_loads(store, history)
        assert_sound(store)


def test_kills_in_the_midst_of_it_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".castore"
    rng = random.Random(8)
    history: dict[str, int] = {}
    with castore.open(path, create=True) as store:
        for round_ in range(6):
            history.update(commit_states(store, range(100 * round_, 100 * round_ + 6)))
            process = start(workers.repack_until_killed, path, rng.uniform(0.02, 0.3))
            process.join(300)
            assert process.exitcode in (0, -14)
            assert_loads(store, history)
        store.repack()
        store.gc()
        assert incoming(store) == []
        assert_loads(store, history)
        assert_sound(store)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_each_operation_may_fail(tmp_path: Path, error: int) -> None:
    with castore.open(tmp_path, create=True) as store:
        history = commit_states(store, range(1, 5))
        for nth in range(1, 100):
            history.update(commit_states(store, range(LATER + nth, LATER + nth + 1)))
            with faults.inject(nth=nth, error=error) as fault:
                try:
                    store.repack()
                except StorageError as caught:
                    assert fault.struck and "\n" not in str(caught)
            assert_loads(store, history)
            if not fault.struck:
                break
        else:
            raise AssertionError("repack makes more operations than this test tries")
        assert_sound(store)
        store.gc()
        assert incoming(store) == []
        assert_loads(store, history)
        assert_sound(store)


def test_blas_starts_no_threads_beside_those_that_encode_and_has_as_many_as_before_then(store: Store) -> None:
    torch.manual_seed(6)
    weight = torch.randn(300, 500)
    for _ in range(3):
        store.commit({"w": weight}, effort="fast")
        weight = weight + 1e-3 * torch.randn(300, 8) @ torch.randn(8, 500)
    seen: list[int] = []

    def blas_threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    class Looking(castore.progress.Silent):
        def start(self, phase: str, total: int | None, unit: str) -> None:
            self.phase = phase

        def finish(self) -> None:
            if self.phase == "Encoding":
                seen.extend(blas_threads())

    store.repository.progress = Looking()
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        assert store.repack().encoded_chunks > 0
        assert blas_threads() == before
    assert set(before) == {2} and set(seen) == {1}
    assert_sound(store)
