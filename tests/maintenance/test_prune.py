"""Pruned states are gone after gc, and nothing else is: not a bit of what is kept, and nothing of history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

import castore
from castore.errors import CorruptError, DroppedError, MissingError, RevisionError, StateError, UsageError
from castore.maintenance.mark import Marker
from castore.progress import Silent
from castore.store import Store
from castore.testing import faults
from castore.testing.states import equal_states
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, assert_sound, flip, state

WHEN = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def fill(store: Store, count: int, branch: str = "main", elements: int = 3000) -> dict[str, int]:
    """Commit states; {id: seed}, oldest first. The step is ten times the seed."""
    return {
        store.commit(state(seed, elements), branch, step=10 * seed, metrics={"loss": 1 / (1 + seed)}).id: seed
        for seed in range(count)
    }


def left(store: Store, history: dict[str, int]) -> dict[str, int]:
    """Those of which nothing was dropped."""
    drops = store.drops()
    return {commit: seed for commit, seed in history.items() if commit not in drops}


class During(Silent):
    """Does something once, when a phase begins."""

    def __init__(self, phase: str, work: Callable[[], Any]) -> None:
        self._phase = phase
        self._work: Callable[[], Any] | None = work

    def start(self, phase: str, total: int | None, unit: str) -> None:
        if phase == self._phase and self._work is not None:
            work, self._work = self._work, None
            work()


def test_gc_frees_what_prune_dropped_and_keeps_the_rest_bit_for_bit(store: Store) -> None:
    history = fill(store, 30, elements=70_000)
    commits = {commit.id: commit for commit in store.log()}
    before = store.stats().stored_bytes
    told = store.prune({"keep_last": 3, "keep_every": 100}, dry_run=True)
    assert store.drops() == {} and store.gc().removed_chunks == 0
    done = store.prune({"keep_last": 3, "keep_every": 100})
    assert [one.rule for one in done.commits] == [one.rule for one in told.commits]
    kept = left(store, history)
    assert list(kept.values()) == [0, 10, 20, 27, 28, 29]
    freed = store.gc().freed_bytes
    assert told.freed_bytes is not None and abs(freed - told.freed_bytes) < 0.02 * freed
    assert store.stats().stored_bytes == before - freed < 0.4 * before
    assert_loads(store, kept, 70_000)
    assert_sound(store)
    store.repository.chunks.access.rebuild()
    assert_loads(store, kept, 70_000)
    assert_sound(store)
    assert {commit.id: commit for commit in store.log()} == commits  # all of history, field for field


def test_a_load_of_what_was_dropped_says_when_by_which_rule_and_what_to_take_instead(store: Store) -> None:
    history = fill(store, 9)
    store.prune({"keep_last": 2, "keep_every": 40})
    gone, near = list(history)[5], list(history)[4]
    said = rf"{gone[:12]} \(step 50\) was dropped on \d{{4}}-\d\d-\d\d by --keep-last 2 --keep-every 40.*{near[:12]}"
    for attempt in (
        lambda: store.load(gone),
        lambda: store.load_into(gone, state(5)),
        lambda: store.checkout(gone, store.path.parent / "out.pt"),
        lambda: list(store.entries(gone)),
        lambda: store.diff(gone, "main"),
    ):
        with pytest.raises(DroppedError, match=said):
            attempt()
    assert not (store.path.parent / "out.pt").exists()
    assert store.show(gone).metrics == {"loss": 1 / 6}
    assert store.resolve("main~3") == gone


def test_a_load_of_what_was_dropped_says_so_though_other_commits_are_damaged(store: Store) -> None:
    history = list(fill(store, 5))
    store.prune({"keep_last": 2})
    place = store.repository.chunks.access.index.get(bytes.fromhex(history[3]))
    assert place is not None
    with castore.open(store.path) as fresh:
        flip(store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack", place.offset)
        with pytest.raises(DroppedError, match=f"{history[1][:12]}.*dropped.*can't be told"):
            fresh.load(history[1])


@pytest.mark.parametrize("collected", [False, True])
def test_a_commit_goes_on_from_a_dropped_one(store: Store, collected: bool) -> None:
    history = fill(store, 6)
    store.prune({"keep_last": 1, "keep_every": 30})
    store.branch("again", list(history)[4])
    if collected:
        store.gc()
    made = store.commit(state(9), branch="again", step=50)
    assert made.parents == (list(history)[4],)
    assert made.stats.components["model"].delta_bytes > 0  # against the last state before it that is there
    store.gc()
    assert_loads(store, {**left(store, history), made.id: 9})
    assert_sound(store)


def test_a_commit_on_a_state_that_lost_components_writes_them_again(store: Store) -> None:
    """That a chunk is named by the parent's tree must not be taken for a proof that it is there."""
    first = store.commit(state(1))
    store.commit({"something": "else"})
    store.prune({"drop_components": "model,frozen"})
    store.gc()
    store.branch("again", first.id)
    made = store.commit(state(1), branch="again")
    assert made.stats.components["model"].new_raw_bytes > 0
    assert_loads(store, {made.id: 1})
    store.gc()
    assert_loads(store, {made.id: 1})
    assert_sound(store)


def test_what_is_left_of_a_state_loads(store: Store) -> None:
    history = fill(store, 3)
    first = next(iter(history))
    store.prune({"drop_components": ["model.w*", "frozen"]})
    before = store.stats().stored_bytes
    store.gc()
    assert store.stats().stored_bytes < before
    found = store.load(first, only=["model.half", "tied", "step"])
    assert equal_states(found, {"model": {"half": state(0)["model"]["half"]}, "tied": state(0)["tied"], "step": 0})
    with pytest.raises(DroppedError, match=r"model.weight is gone: .*lost model.w\*, frozen on .*--drop-components"):
        store.load(first)
    with pytest.raises(DroppedError, match="frozen"):
        store.load_into(first, state(0))
    assert {one.path: one.value for one in store.entries(first)}["model.weight"] == "dropped"
    assert {one.path: one.change for one in store.diff(first, "main").tensors}["model.half"] == "changed"
    assert_sound(store)
    store.prune({"keep_last": 1})
    assert store.drops()[first].components == ()
    with pytest.raises(DroppedError):
        store.load(first, only="tied")
    store.gc()
    assert_sound(store)


def test_memory_that_a_kept_tensor_shares_with_a_dropped_one_is_kept(store: Store) -> None:
    weight = torch.randn(500)
    first = store.commit({"model": {"head": weight}, "extra": {"tied": weight, "own": torch.randn(500)}})
    store.commit({"x": 0})
    store.prune({"drop_components": "extra"})
    store.gc()
    assert torch.equal(store.load(first.id, only="model")["model"]["head"], weight)
    with pytest.raises(DroppedError, match=r"extra\.own"):
        store.load(first.id, only="extra")


def test_of_committed_files_whole_files_are_dropped(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-10"
    folder.mkdir()
    torch.save({"w": torch.randn(3000)}, folder / "model.pt")
    torch.save({"exp_avg": torch.randn(6000)}, folder / "optimizer.pt")
    first = store.commit_files([folder])
    store.commit({"x": 0})
    store.prune({"drop_components": "optimizer"})
    store.gc()
    with pytest.raises(DroppedError, match=r"optimizer\.pt"):
        store.load(first.id)
    assert torch.equal(store.load(first.id, only="model.pt")["model.pt"]["w"], torch.load(folder / "model.pt")["w"])
    model = (folder / "model.pt").read_bytes()
    store.checkout(first.id, tmp_path / "out", only="model.pt")
    assert (tmp_path / "out" / "model.pt").read_bytes() == model
    with pytest.raises(DroppedError, match=r"optimizer\.pt"):
        store.checkout(first.id, tmp_path / "all")
    assert not (tmp_path / "all" / "model.pt").exists()
    assert_sound(store)


def test_what_was_marked_for_a_part_of_a_state_is_gone_through_for_a_whole_one(tmp_path: Path) -> None:
    """A tensor of so many chunks that their ids are an object of their own, which both states share, and its tree."""
    with castore.open(tmp_path, create=True) as store:
        settings = store.path / "castore.toml"
        settings.write_text(settings.read_text().replace("chunk_elements = 262144", "chunk_elements = 1024"))
    whole = {"model": {"w": torch.randn(300 * 1024)}, "rest": torch.randn(2000)}
    with castore.open(tmp_path) as store:
        part, same = store.commit(whole), store.commit(whole, message="again")
        store.commit({"x": 0})
        store.tag("wanted", same.id)
        store.prune({"drop_components": "model"})
        for order in ([part.id, same.id], [same.id, part.id]):
            marker = Marker(store.repository)
            for one in order:
                marker.mark([one])
            assert len(marker.live) > 300
            assert store.gc().removed_chunks == 0
        store.delete_tag("wanted")
        assert store.why(same.id, {"keep_last": 5}).alone_bytes > 1_000_000
        store.prune({"drop_components": "model"})
        assert store.gc().removed_chunks >= 300
        assert torch.equal(store.load(same.id, only="rest")["rest"], whole["rest"])
        assert_sound(store)


def again(store: Store, number: int, branch: str) -> castore.Commit:
    """A commit that has the same id whenever this process makes it: what the store had before is no part of it."""
    return store.commit({"number": number}, branch, author="ada", time=WHEN + timedelta(minutes=number))


def test_the_very_same_commit_made_again_is_there_again(store: Store) -> None:
    first = again(store, 0, "main").id
    again(store, 1, "main")
    store.prune({"keep_last": 1})
    assert store.gc().removed_chunks == 1
    assert again(store, 0, "other").id == first
    assert store.drops() == {}
    store.gc()
    with castore.open(store.path) as opened:
        assert opened.load(first) == {"number": 0}
    assert_sound(store)


def test_gc_sees_that_a_dropped_commit_was_made_again_while_it_copied(store: Store) -> None:
    first = again(store, 0, "main").id
    again(store, 1, "main")
    store.prune({"keep_last": 1})
    with castore.open(store.path) as other:
        beside = During("Copying", lambda: again(other, 0, "other"))
        with castore.open(store.path, progress=beside) as collecting:
            assert collecting.gc().removed_chunks == 0
    with castore.open(store.path) as opened:
        assert opened.load(first) == {"number": 0}
    assert_sound(store)


def test_what_is_tagged_while_prune_decides_is_kept(store: Store) -> None:
    history = fill(store, 5)
    chosen = list(history)[1]
    with castore.open(store.path) as other:
        beside = During("Reading history", lambda: other.tag("wanted", chosen))
        with castore.open(store.path, progress=beside) as pruning:
            pruning.prune({"keep_last": 1})
    assert sorted(left(store, history).values()) == [1, 4]


def test_death_at_each_operation_of_prune_drops_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".castore"
    with castore.open(path, create=True) as store:
        history = fill(store, 5)
    for nth in range(1, 40):
        process = start(workers.prune_until_death, path, nth)
        process.join(300)
        with castore.open(path) as store:
            assert len(store.drops()) in (0, 3)
            assert_loads(store, left(store, history))
            if process.exitcode == 0:
                break
            assert process.exitcode == 9
            if store.drops():
                (path / "dropped").unlink()  # once more from the beginning
    else:
        raise AssertionError("prune makes more operations than this test tries")
    assert nth > 5
    with castore.open(path) as store:
        store.gc()
        assert list(path.rglob("*.tmp")) == []
        assert len(left(store, history)) == 2
        assert_loads(store, left(store, history))
        assert_sound(store)


def test_death_at_each_operation_of_gc_after_prune_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".castore"
    with castore.open(path, create=True) as store:
        history = fill(store, 6)
        store.prune({"keep_last": 2, "drop_components": "model"})
    for nth in range(1, 60):
        process = start(workers.collect_until_death, path, nth)
        process.join(300)
        with castore.open(path) as store:
            assert_loads(store, left(store, history))
            assert store.fsck(read_data=True).ok
            if process.exitcode == 0:
                break
    else:
        raise AssertionError("gc makes more operations than this test tries")
    with castore.open(path) as store:
        assert store.gc(dry_run=True).removed_chunks == 0


def test_commits_and_checks_go_on_beside_prune_and_gc(tmp_path: Path) -> None:
    path, acks = tmp_path / ".castore", tmp_path / "acknowledged"
    castore.open(path, create=True).close()
    finish(
        [
            start(workers.commit_many, path, "a", range(30), acks),
            start(workers.commit_many, path, "b", range(20, 50), acks),
            start(workers.prune_and_collect, path, 12),
            start(workers.prune_and_collect, path, 12),
            start(workers.check, path, 4),
        ]
    )
    history = {commit: int(seed) for commit, seed in workers.read_report(acks)}
    with castore.open(path) as store:
        assert len(history) == 60 == len(list(store.log(["a", "b"])))
        assert set(store.drops()) < set(history)
        assert_loads(store, left(store, history))
        assert_sound(store)


def test_a_full_disk_drops_nothing(store: Store) -> None:
    history = fill(store, 4)
    for operation in ("create", "write", "sync", "rename"):
        with faults.inject(operation, error=28), pytest.raises(castore.StorageError, match="full"):
            store.prune({"keep_last": 1})
        assert left(store, history) == history
        assert_loads(store, history)


def test_a_pinned_commit_stays_whatever_becomes_of_its_branch(store: Store) -> None:
    store.commit({"x": 0})
    history = fill(store, 4, branch="trial")
    pinned = list(history)[1]
    assert store.pin(pinned, "for the paper").reason == "for the paper"
    store.prune({"keep_last": 1})
    assert sorted(left(store, history).values()) == [1, 3]
    store.delete_branch("trial", force=True)
    store.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1))
    store.gc()
    assert_loads(store, {pinned: 1})
    assert set(store.drops()) == {next(iter(history))}  # an ancestor; those after it are gone, and their marks too
    assert_sound(store)
    store.unpin(pinned)
    assert store.pins() == {}
    store.gc()
    with pytest.raises(RevisionError):
        store.resolve(pinned)
    with pytest.raises(RevisionError, match="not pinned"):
        store.unpin("main")


def test_what_was_dropped_cannot_be_pinned(store: Store) -> None:
    history = fill(store, 3)
    store.prune({"keep_last": 1})
    with pytest.raises(DroppedError):
        store.pin(next(iter(history)))


def test_only_what_no_other_branch_leads_to_is_pruned_of_a_branch(store: Store) -> None:
    shared = fill(store, 4)
    store.branch("trial", "main~1")
    own = {store.commit(state(seed), "trial", step=10 * seed).id: seed for seed in (20, 21, 22)}
    report = store.prune({"keep_last": 1}, branch="trial")
    assert {one.commit.id for one in report.changed} == set(list(own)[:2])
    assert left(store, shared) == shared
    with pytest.raises(RevisionError, match=r"'nothing'.*main, trial"):
        store.prune({"keep_last": 1}, branch="nothing")


def test_why(store: Store) -> None:
    history = fill(store, 5, elements=70_000)
    store.tag("v1", list(history)[2])
    found = store.why("v1", {"keep_last": 1, "keep_every": 20})
    assert found.verdict.reasons == ("tag v1", "--keep-every 20")
    alone = store.prune({"keep_last": 1}, dry_run=True).alone_bytes
    gone = store.why("main~1", {"keep_last": 1})
    assert gone.verdict.after == "dropped" and gone.drop is None
    assert gone.alone_bytes == alone[store.resolve("main~1")] > 50_000
    store.prune({"keep_last": 1})
    later = store.why("main~1", {"keep_last": 5})
    assert later.drop is not None and later.drop.rule == "--keep-last 1" and later.alone_bytes == 0


def test_rules_come_from_the_stores_settings(store: Store) -> None:
    history = fill(store, 6)
    with pytest.raises(UsageError, match=r"no rules.*\[retention\]"):
        store.prune()
    settings = store.path / "castore.toml"
    settings.write_text(settings.read_text() + '\n[retention]\nkeep_last = 1\nkeep_best = ["loss=max:2"]\n')
    with castore.open(store.path) as opened:
        opened.prune()
    assert sorted(left(store, history).values()) == [0, 1, 5]
    assert "keep_best" in settings.read_text() and '"retention",' in settings.read_text()
    settings.write_text(settings.read_text().replace("keep_last", "keep_lst"))
    with castore.open(store.path) as opened:
        assert len(list(opened.log())) == 6  # only who needs the rules is told
        with pytest.raises(UsageError, match=r"castore.toml: retention: there is no rule 'keep_lst'"):
            opened.prune()


@pytest.mark.parametrize("change", [lambda s: s.prune({"keep_last": 1}), lambda s: s.pin("main")])
def test_an_older_castore_refuses_the_store_once_it_must(store: Store, change: Callable[[Store], object]) -> None:
    """It would take what was dropped for lost, and collect what is pinned."""
    fill(store, 2)
    assert "retention" not in (store.path / "castore.toml").read_text()
    change(store)
    assert '"retention"' in (store.path / "castore.toml").read_text()


def test_what_is_loaded_is_kept_for_a_while(store: Store, tmp_path: Path) -> None:
    commits = [store.commit(state(n), step=n) for n in range(8)]
    store.load("main~5", only="step")
    store.load_into("main~4", store.load("main~4"))
    store.checkout("main~3", tmp_path / "out.pt")
    written = (store.path / "accessed").read_bytes()
    store.load("main~5")
    assert (store.path / "accessed").read_bytes() == written  # it is remembered to the hour
    with pytest.raises(StateError):
        store.load("main~6", only="nothing")
    report = store.prune({"keep_accessed": "1d"})
    assert {one.commit.step for one in report.commits if one.after == "present"} == {2, 3, 4, 7}
    store.branch("other", commits[4].id)
    store.delete_branch("other", force=True)
    assert store.fsck().ok


def test_a_damaged_line_says_so_and_its_commit_counts_as_present(store: Store) -> None:
    history = fill(store, 4)
    store.prune({"keep_last": 2})
    marks = store.path / "dropped"
    whole = marks.read_bytes()
    marks.write_bytes(whole[:-30] + b"\n")
    assert len(store.drops()) == 1
    assert any("dropped has damaged lines" in error.problem for error in store.fsck().errors)
    with pytest.raises(CorruptError, match="dropped has damaged lines"):
        store.gc()  # by what is left of it too much might go
    marks.write_bytes(whole)
    assert_loads(store, left(store, history))
    assert_sound(store)
    store.gc()
    marks.write_bytes(b"")  # the states are gone, and nothing says why
    with castore.open(store.path) as opened:
        with pytest.raises(MissingError):
            opened.gc()
        assert not opened.fsck().ok


def test_gc_refuses_to_go_by_damaged_pins(store: Store) -> None:
    fill(store, 2)
    store.pin("main~1")
    (store.path / "pins").write_bytes((store.path / "pins").read_bytes() + b"junk\n")
    with pytest.raises(CorruptError, match="pins has damaged lines: 3"):
        store.gc()
    assert any("pins has damaged lines" in error.problem for error in store.fsck().errors)


def test_a_link_in_the_place_of_the_marks_is_refused(store: Store, tmp_path: Path) -> None:
    fill(store, 2)
    (tmp_path / "elsewhere").write_text("")
    (store.path / "dropped").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptError, match="symbolic link"):
        store.gc()
    assert any("symbolic link" in error.problem for error in store.fsck().errors)


def test_statistics_count_what_is_left(store: Store) -> None:
    fill(store, 4)
    whole = store.stats()
    store.prune({"keep_last": 3, "drop_components": "model"})
    found = store.stats()
    assert (found.commits, found.dropped, found.partial) == (4, 1, 2)
    assert found.raw_bytes < whole.raw_bytes
    assert found.components["model"].raw_bytes * 4 == whole.components["model"].raw_bytes
