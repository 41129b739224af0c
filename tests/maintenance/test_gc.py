"""gc takes what nothing leads to, and nothing else."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import castore
from castore.chunks import pack
from castore.errors import CorruptError, DroppedError
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import assert_loads, assert_sound, flip, incoming, packs, state

OLD = datetime(2020, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def forget(store: Store, branch: str) -> None:
    """Delete a branch, and what HEAD's reflog knows of it."""
    store.delete_branch(branch, force=True)
    store.expire_reflog("HEAD", datetime.now(timezone.utc) + timedelta(days=1))


class Histories(RuleBasedStateMachine):
    """Branches, tags, resets, deletions, repack and gc, against a plain model of what is reachable."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.store = castore.open(self.directory, create=True)
        self.seeds: dict[str, int] = {}
        self.parents: dict[str, str | None] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.logged: dict[str, set[str]] = {}
        self.dropped: set[str] = set()

    @initialize()
    def begin(self) -> None:
        self.store.commit({"x": 0}, branch="main", message="HEAD's own branch is left alone")

    def _moved(self, branch: str, commit: str) -> None:
        before = {self.branches[branch]} if branch in self.branches else set()  # a reflog line has both
        self.logged.setdefault(branch, set()).update(before, {commit})
        self.branches[branch] = commit

    def _reachable(self) -> set[str]:
        pending = [*self.branches.values(), *self.tags.values(), *(c for log in self.logged.values() for c in log)]
        found: set[str] = set()
        while pending:
            commit = pending.pop()
            if commit not in found:
                found.add(commit)
                if (parent := self.parents[commit]) is not None:
                    pending.append(parent)
        return found

    names = st.sampled_from(["a", "b", "c"])

    @rule(branch=names, seed=st.integers(0, 5))
    def commit(self, branch: str, seed: int) -> None:
        made = self.store.commit(state(seed), branch=branch, message=str(len(self.seeds)))
        self.seeds[made.id] = seed
        self.parents[made.id] = self.branches.get(branch)
        self._moved(branch, made.id)

    @precondition(lambda self: self.branches)
    @rule(data=st.data(), branch=names)
    def reset(self, data: st.DataObject, branch: str) -> None:
        commit = data.draw(st.sampled_from(sorted(self._reachable())))
        self.store.branch(branch, commit, force=True)
        self._moved(branch, commit)

    @precondition(lambda self: self.branches)
    @rule(data=st.data())
    def delete_branch(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        self.store.delete_branch(branch, force=True)
        del self.branches[branch], self.logged[branch]

    @precondition(lambda self: self.branches)
    @rule(data=st.data(), name=st.sampled_from(["t", "u"]))
    def tag(self, data: st.DataObject, name: str) -> None:
        commit = data.draw(st.sampled_from(sorted(self._reachable())))
        self.store.tag(name, commit, force=True)
        self.tags[name] = commit

    @precondition(lambda self: self.tags)
    @rule(data=st.data())
    def delete_tag(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.tags)))
        self.store.delete_tag(name)
        del self.tags[name]

    @precondition(lambda self: self.branches)
    @rule(data=st.data())
    def expire(self, data: st.DataObject) -> None:
        branch = data.draw(st.sampled_from(sorted(self.branches)))
        self.store.expire_reflog(branch, datetime.now(timezone.utc) + timedelta(days=1))
        self.logged[branch] = set()

    @precondition(lambda self: self.branches)
    @rule(rules=st.sampled_from([{"keep_last": 1}, {"keep_last": 2}, {"drop_components": "model"}]))
    def prune(self, rules: dict[str, object]) -> None:
        report = self.store.prune(rules)
        self.dropped.update(one.commit.id for one in report.changed)
        assert not self.dropped & {*self.tags.values()} - {one.commit.id for one in report.commits if not one.rule}

    @rule()
    def rebuild_index(self) -> None:
        self.store._repo.chunks.access.rebuild()

    @rule()
    def repack(self) -> None:
        self.store.repack()
        again = self.store.repack()
        assert (again.encoded_chunks, again.moved_records) == (0, 0)

    @rule()
    def collect(self) -> None:
        before = sorted(path.name for path in packs(self.store))
        told = self.store.gc(dry_run=True)
        assert sorted(path.name for path in packs(self.store)) == before
        done = self.store.gc()
        assert (done.removed_chunks, done.rewritten_packs) == (told.removed_chunks, told.rewritten_packs)
        assert (done.removed_packs, done.freed_bytes) == (told.removed_packs, told.freed_bytes)
        assert {one.commit for one in done.unreachable} == {one.commit for one in told.unreachable}
        known = {one for one, place in self.store._repo.chunks.access.index.items() if place.kind == pack.COMMIT}
        assert {one.hex() for one in known} >= self._reachable()
        assert not {one.hex() for one in known} & (set(self.seeds) - self._reachable())
        again = self.store.gc()
        assert (again.removed_chunks, again.removed_packs, again.rewritten_packs) == (0, 0, 0)

    @invariant()
    def what_is_reachable_loads(self) -> None:
        assert_loads(self.store, {commit: self.seeds[commit] for commit in self._reachable() - self.dropped})
        for commit in self._reachable() & self.dropped:
            with pytest.raises(DroppedError):
                self.store.load(commit)

    def teardown(self) -> None:
        assert_sound(self.store)
        audit = self.store.check_audit()
        assert (audit.errors, audit.notes) == ((), ())
        self.store.close()
        shutil.rmtree(self.directory)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=10, stateful_step_count=14, suppress_health_check=list(HealthCheck))


def test_what_is_left_takes_what_a_fresh_store_would(store: Store, tmp_path: Path) -> None:
    kept = [store.commit(state(seed), branch="kept").id for seed in (1, 2)]
    for seed in range(3, 9):
        store.commit({"noise": torch.randn(30_000, generator=torch.Generator().manual_seed(seed))}, branch="doomed")
    before = store.stats().stored_bytes
    forget(store, "doomed")
    report = store.gc()
    after = store.stats().stored_bytes
    assert before - after == report.freed_bytes > 300_000
    assert report.removed_packs == 6
    with castore.open(tmp_path / "fresh", create=True) as fresh:
        for seed in (1, 2):
            fresh.commit(state(seed), branch="kept")
        assert after <= 1.05 * fresh.stats().stored_bytes + 1000
    assert_loads(store, dict(zip(kept, (1, 2), strict=True)))


def test_a_pack_that_is_mostly_garbage_is_rewritten_and_one_that_is_mostly_alive_stays(store: Store) -> None:
    noise = [torch.randn(5000, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    store.commit({"a": noise[0], "b": noise[1], "c": noise[2], "d": noise[3]}, branch="doomed")
    store.commit({"a": noise[0]}, branch="kept")
    assert len(packs(store)) == 2
    forget(store, "doomed")
    report = store.gc()
    assert (report.rewritten_packs, report.removed_packs) == (1, 0)
    assert report.freed_bytes > 3 * 15_000
    assert torch.equal(store.load("kept")["a"], noise[0])
    store.commit({"a": noise[0], "b": noise[1], "c": noise[2], "d": noise[3]}, branch="doomed")
    store.commit({"a": noise[0], "b": noise[1], "c": noise[2]}, branch="most")
    forget(store, "doomed")
    stayed = store.gc()
    assert (stayed.rewritten_packs, stayed.removed_packs, stayed.freed_bytes) == (0, 0, 0)
    assert stayed.removed_chunks >= 3
    assert_sound(store)


def test_a_delta_whose_bases_commit_became_garbage_still_decodes(store: Store) -> None:
    start = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    store.commit({"w": start}, branch="doomed")
    for step in (1, 2):
        store.commit({"w": start + step * 1e-5}, branch="doomed")
    store.branch("kept", "doomed")
    kept = store.resolve("kept")
    assert store.show(kept).stats.total.delta_bytes > 0
    forget(store, "doomed")
    orphan = store.commit({"w": start + 3e-5}, branch="kept").id
    # A history without the commits that hold the bases: the same chunks under a commit that has no parent.
    store.commit({"w": start + 2e-5}, branch="alone")
    forget(store, "kept")
    report = store.gc()
    assert {one.commit for one in report.unreachable} >= {kept, orphan}
    assert equal_states(store.load("alone"), {"w": start + 2e-5})
    assert_sound(store)
    shutil.rmtree(store.path / "index")
    with castore.open(store.path) as again:
        assert equal_states(again.load("alone"), {"w": start + 2e-5})
        assert_sound(again)


def test_reflog_entries_keep_commits_until_they_expire(store: Store) -> None:
    first = store.commit(state(1), time=OLD).id
    store.commit(state(2))
    lost = store.resolve("main")
    store.branch("main", first, force=True)
    assert store.gc().removed_chunks == 0
    assert_loads(store, {"main@{1}": 2, lost: 2})
    assert store.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1)) > 0
    report = store.gc(dry_run=True)
    assert [one.commit for one in report.unreachable] == [lost]
    assert store.gc().removed_chunks == report.removed_chunks > 0
    assert_loads(store, {first: 1})


def test_old_reflog_entries_expire_by_themselves(store: Store) -> None:
    first = store.commit(state(1), time=OLD).id
    lost = store.commit(state(2), time=OLD + timedelta(days=1)).id
    store.branch("main", first, force=True)
    store.expire_reflog("HEAD", datetime.now(timezone.utc) + timedelta(days=1))
    # The reset itself is new, and names the commit that it left: the reflog leads to it for another 30 days.
    assert store.gc().removed_chunks == 0
    assert_loads(store, {lost: 2})


def test_a_pack_that_a_crash_kept_out_of_the_index_is_collected(store: Store) -> None:
    store.commit(state(1))
    with castore.open(store.path) as other, other._repo.chunks.session() as session:
        session.put_object(pack.TREE, b"\x80" * 50)
        session.seal()
        session._written_packs.move_in(store.path / "packs")
    assert len(packs(store)) == 2
    report = store.gc()
    assert report.removed_packs == 1
    assert len(packs(store)) == 1
    assert_sound(store)


def test_a_second_copy_of_records_that_a_crash_of_gc_left_is_collected(store: Store) -> None:
    commit = store.commit(state(1)).id
    from castore.maintenance.copying import Copier

    with Copier(store._repo) as copier:
        copier.copy(list(store._repo.chunks.access.index.items()))
        copier.publish()  # and then the process died, before the index knew
    assert len(packs(store)) == 2
    store.gc()
    assert len(packs(store)) == 1
    assert_loads(store, {commit: 1})
    assert_sound(store)


def test_files_of_writers_that_died_are_removed_and_those_of_living_ones_stay(store: Store) -> None:
    store.commit(state(1))
    (store.path / "incoming" / "1-dead.pack").write_bytes(b"CASTPACK")
    with castore.open(store.path) as other, other._repo.chunks.session() as session:
        session.put_object(pack.TREE, b"\x80")
        assert store.gc().abandoned_files == 1
        assert len(incoming(store)) == 1
    assert incoming(store) == []


def test_gc_refuses_to_work_on_a_broken_history_and_deletes_nothing(store: Store) -> None:
    store.commit(state(1), branch="doomed")
    store.commit(state(2))
    forget(store, "doomed")
    for damage in ("tree", "ref"):
        with castore.open(store.path) as other:
            before = packs(other)
            if damage == "tree":
                tree = bytes.fromhex(other.show("main").tree)
                place = other._repo.chunks.access.index.get(tree)
                assert place is not None
                path = store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack"
                flip(path, place.offset)
            else:
                (store.path / "refs/heads/broken").write_text("no id\n")
            with castore.open(store.path) as fresh, pytest.raises(CorruptError):
                fresh.gc()
            assert packs(other) == before
            if damage == "tree":
                flip(path, place.offset)


def test_a_damaged_record_is_not_copied_into_a_new_pack(store: Store) -> None:
    noise = [torch.randn(5000, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    store.commit({str(n): tensor for n, tensor in enumerate(noise)}, branch="doomed")
    store.commit({"0": noise[0]}, branch="kept")
    forget(store, "doomed")
    (chunk,) = [one for one in store._repo.tree(store.show("kept")).items if one]
    place = store._repo.chunks.access.index.get(chunk[1].chunks)
    assert place is not None
    flip(store.path / "packs" / place.pack.hex()[:2] / f"{place.pack.hex()}.pack", place.offset + 5)
    before = packs(store)
    with pytest.raises(CorruptError, match="fsck --repair"):
        store.gc()
    assert packs(store) == before
    assert incoming(store) == []


def test_a_pack_whose_dead_records_all_came_back_to_life_is_not_deleted(store: Store) -> None:
    # gc decides to rewrite a pack, and before it sweeps a branch is made that needs all of it: the copy is the pack.
    class Revive(castore.progress.Silent):
        def start(self, phase: str, total: int | None, unit: str) -> None:
            if phase == "Copying":
                with castore.open(store.path) as other:
                    other.branch("revived", commit)

    commit = store.commit({"w": torch.arange(4000)}, branch="doomed").id
    forget(store, "doomed")
    with castore.open(store.path, progress=Revive()) as collector:
        collector.gc()
    assert equal_states(store.load("revived"), {"w": torch.arange(4000)})
    assert_sound(store)
    with castore.open(store.path, progress=castore.progress.Silent()) as again:
        again.gc()
        assert_sound(again)


def test_gc_goes_on_after_fsck_took_a_damaged_chunk_out_of_service(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        lost = store.commit({"w": torch.randn(2000)})
        (pack,) = store.path.glob("packs/*/*.pack")
        store.commit({"w": torch.zeros(10)}, branch="gone")
        data = bytearray(pack.read_bytes())
        data[200] ^= 1
        pack.write_bytes(bytes(data))
        assert not store.fsck(repair=True).ok
        store.delete_branch("gone", force=True)
        assert store.gc().removed_chunks > 0
        assert store.resolve("main") == lost.id


def test_gc_says_how_many_commits_only_the_reflog_keeps(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        for step in range(3):
            store.commit({"w": torch.full((10,), float(step))}, step=step)
        store.branch("first", "main~2")
        store.switch("first")
        store.delete_branch("main", force=True)
        report = store.gc(dry_run=True)
        assert (report.kept_by_reflogs, report.removed_chunks) == (2, 0)
