"""Copies of tiers in a second directory: made, verified, opened by themselves, and read from when the first is lost."""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import castore
from castore.copies import directories, opened
from castore.errors import CorruptError, DroppedError, MissingError, RevisionError, StorageError, UsageError
from castore.history.drops import Drop
from castore.maintenance.mirroring.transfer import copy_commits
from castore.progress import Silent
from castore.store import Store
from castore.testing import faults
from castore.testing.states import equal_states
from tests.samples import assert_loads, assert_sound, flip, incoming, packs, state
from tests.tiered import tiered

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
TIERS = """
[tiers.recovery]
keep_last = 2

[tiers.archive]
directory = "disk2/copies"
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "disk2").mkdir()
    with tiered(tmp_path, TIERS) as store:
        yield store


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Where the copies lie."""
    return tmp_path / "disk2" / "copies"


def fill(store: Store, count: int, branch: str = "main", first: int = 0) -> dict[str, int]:
    """Commits of which every third is archived; these, with their seeds."""
    made = {}
    for seed in range(first, first + count):
        tier = "archive" if seed % 3 == 0 else "recovery"
        commit = store.commit(state(seed), branch=branch, step=seed, tier=tier)
        if tier == "archive":
            made[commit.id] = seed
    return made


def lose_packs(store: Store) -> None:
    """All that the first store holds is gone; its refs and castore.toml are left."""
    for path in packs(store):
        path.unlink()
    shutil.rmtree(store.path / "index")
    store.repository.chunks.access.rebuild()


# Copying


def test_the_second_directory_opens_by_itself_and_has_the_whole_history(store: Store, copies: Path) -> None:
    archived = fill(store, 8)
    store.tag("paper", "main:step=3")
    (report,) = store.mirror().directories
    assert (report.directory, report.tiers, report.copied, report.left, report.error) == (
        copies,
        ("archive",),
        3,
        0,
        None,
    )
    with castore.open(copies) as second:
        assert [one.step for one in second.log("main")] == [6, 5, 4, 3, 2, 1, 0]
        assert list(second.log("main")) == list(store.log("main~1"))
        assert second.tags() == {"paper": store.resolve("paper")} and second.head().branch == "main"
        assert_loads(second, archived)
        with pytest.raises(DroppedError, match="by not in tier archive"):
            second.load("main~1")
        assert report.new_bytes == sum(path.stat().st_size for path in packs(second))
        assert_sound(second)
        assert second.gc().removed_chunks == 0


def test_the_next_time_only_what_is_new_is_copied(store: Store, copies: Path) -> None:
    archived = fill(store, 7)
    first = store.mirror().directories[0]
    assert store.mirror().directories[0].copied == 0
    archived |= fill(store, 3, first=7)
    second = store.mirror().directories[0]
    assert second.copied == 1 and 0 < second.new_bytes < first.new_bytes
    with castore.open(copies) as opened_:
        assert_loads(opened_, archived)
        assert [one.step for one in opened_.log("main")] == [*range(9, -1, -1)]


def test_several_tiers_share_a_directory_or_have_their_own(tmp_path: Path) -> None:
    tables = '[tiers.a]\ndirectory = "x"\n[tiers.b]\ndirectory = "x"\n[tiers.c]\ndirectory = "y"\n'
    with tiered(tmp_path, tables) as store:
        ids = [store.commit(state(seed), tier="abc"[seed % 3]).id for seed in range(6)]
        assert [(one.tiers, one.copied) for one in store.mirror().directories] == [(("a", "b"), 4), (("c",), 2)]
    for name, seeds in (("x", (0, 1, 3, 4)), ("y", (2, 5))):
        with castore.open(tmp_path / name) as second:
            assert_loads(second, {ids[seed]: seed for seed in seeds})
            assert_sound(second)


def test_branches_that_are_moved_or_deleted_let_go_of_no_copy(store: Store, copies: Path) -> None:
    archived = fill(store, 4)
    store.branch("other", "main:step=1")
    archived |= fill(store, 3, branch="other", first=10)
    store.mirror()
    store.branch("main", "main:step=1", force=True)
    store.delete_branch("other", force=True)
    archived |= fill(store, 3, branch="main", first=20)
    store.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1))
    store.gc()
    assert store.mirror().ok
    with castore.open(copies) as second:
        second.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1))
        second.gc()
        assert_loads(second, archived)
        assert second.show("main").step == 21
        assert second.show("other").step == 12


def test_what_no_branch_leads_to_has_a_tag_there(store: Store, copies: Path) -> None:
    archived = fill(store, 4, branch="doomed")
    store.tag("kept", "doomed")
    store.delete_branch("doomed", force=True)
    store.mirror()
    with castore.open(copies) as second:
        second.gc()
        assert_loads(second, archived)


def test_a_name_that_another_ref_is_in_the_way_of_is_told_and_the_copy_kept(store: Store, copies: Path) -> None:
    archived = fill(store, 1, branch="a")
    store.mirror()
    store.delete_branch("a", force=True)
    archived |= fill(store, 1, branch="a/b", first=3)
    assert store.mirror().ok
    with castore.open(copies) as second:
        second.gc()
        assert_loads(second, archived)
        assert set(second.branches()) == {"a"}


def test_a_partial_state_is_copied_as_it_is(store: Store, copies: Path) -> None:
    fill(store, 4)
    store.prune({"drop_components": "model.weight"})
    commit = store.resolve("main:step=0")
    assert commit not in store.drops()  # it waits to be copied
    store.repository.drops.add([Drop(commit, NOW, "--drop-components", ("model.weight",))])
    assert store.mirror().ok
    with castore.open(copies) as second:
        assert second.drops()[commit].components == ("model.weight",)
        assert equal_states(second.load("main:step=0", only="model.half"), store.load("main:step=0", only="model.half"))
        assert_sound(second)


def test_a_commit_that_is_moved_to_the_tier_is_copied_and_is_of_it_there(store: Store, copies: Path) -> None:
    fill(store, 5)
    store.mirror()
    moved = store.move_tier("main:step=2", "archive").commit
    assert store.tier_of(moved).copies == ()
    assert store.mirror().directories[0].copied == 1
    assert store.tier_of(moved).copies == (copies,)
    store.move_tier("main:step=3", "recovery")
    assert store.mirror().directories[0].copied == 0
    with castore.open(copies) as second:
        assert_loads(second, {moved: 2, store.resolve("main:step=3"): 3})
        assert [one.tier for one in second.log("main")][:3] == ["recovery", "archive", "recovery"]


# Interrupted, beside others


def test_where_time_is_up_the_next_run_goes_on(store: Store, copies: Path) -> None:
    archived = fill(store, 10)
    (report,) = store.mirror(deadline=time.monotonic()).directories
    assert (report.copied, report.left, report.error) == (0, 4, None)
    assert store.mirror(deadline=time.monotonic() + 3600).directories[0].copied == 4
    with castore.open(copies) as second:
        assert_loads(second, archived)


def test_a_process_that_dies_at_any_write_leaves_what_the_next_run_completes(tmp_path: Path) -> None:
    code = (
        "import sys, castore; from castore.testing import faults\n"
        "with castore.open(sys.argv[1]) as store, faults.die_at(int(sys.argv[2])): store.mirror()"
    )
    died = 0
    for number in range(1, 90, 8):
        root = tmp_path / str(number)
        (root / "disk2").mkdir(parents=True)
        with tiered(root, TIERS) as store:
            archived = fill(store, 4)
            died += subprocess.run([sys.executable, "-c", code, str(root), str(number)], check=False).returncode == 9
            if (root / "disk2" / "copies" / ".castore" / "castore.toml").exists():
                with castore.open(root / "disk2" / "copies") as second:
                    assert_sound(second)
                    second.gc()
            assert store.mirror().ok
            with castore.open(root / "disk2" / "copies") as second:
                assert_loads(second, archived)
                assert_sound(second)
    assert died > 5


def test_gc_beside_takes_nothing_that_a_copy_counts_on(store: Store, copies: Path) -> None:
    """It sweeps, there and here, between what was planned and what is published."""
    archived = fill(store, 4)
    store.mirror()
    ids = [store.commit(state(seed), tier="archive").id for seed in (0, 3)]
    with opened(store.repository, copies) as target:
        swept = []

        def publish() -> None:
            target.refs.create_tag(f"t{len(swept)}", ids[0])

        commits = [store.show(one) for one in ids]
        there = {one.id for one in castore.open(copies).log()}
        original = target.chunks.access.refresh

        def refresh() -> None:
            original()
            if not swept:  # once, as if another process had swept while records were copied
                swept.append(True)
                target.chunks.access.index.update(swept=True)

        target.chunks.access.refresh = refresh  # type: ignore[method-assign]
        copy_commits(store.repository, target, commits, there, publish, "test", datetime.now(timezone.utc))
    with castore.open(copies) as second:
        assert_loads(second, {**archived, ids[0]: 0})
        assert_sound(second)


# What is wrong


def test_a_directory_that_is_gone_is_named_and_nothing_is_dropped(store: Store, copies: Path, tmp_path: Path) -> None:
    archived = fill(store, 7)
    store.mirror()
    archived |= fill(store, 3, first=9)
    away = copies.parent.rename(tmp_path / "away")
    for ask in (lambda: None, lambda: (tmp_path / "disk2").mkdir(), lambda: copies.mkdir()):  # gone, or not mounted
        ask()
        (report,) = store.mirror().directories
        assert isinstance(report.error, StorageError) and str(copies) in str(report.error)
        assert "mounted" in str(report.error) and report.left == 4
    assert not list(copies.iterdir())
    store.prune({"keep_last": 1})
    store.gc()
    assert_loads(store, archived)
    shutil.rmtree(tmp_path / "disk2")
    away.rename(tmp_path / "disk2")
    assert store.mirror().directories[0].copied == 1


def test_a_store_that_is_not_the_one_of_before_or_somebody_elses_is_not_written_to(
    store: Store, copies: Path, tmp_path: Path
) -> None:
    fill(store, 4)
    castore.open(copies, create=True).close()
    assert "a store of its own" in str(store.mirror().directories[0].error)
    shutil.rmtree(copies)
    store.mirror()
    shutil.rmtree(copies)
    (store.path / "mirrors").rename(tmp_path / "mirrors")
    store.mirror()  # another store of copies, and the memory of the first one
    (tmp_path / "mirrors").rename(store.path / "mirrors")
    assert "another store" in str(store.mirror().directories[0].error)
    (store.path / "mirrors").write_text("garbage\n")
    assert "damaged line, 1" in str(store.mirror().directories[0].error)


def test_a_directory_on_a_disk_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with tiered(tmp_path, f'[tiers.archive]\ndirectory = "{tmp_path}/nowhere/copies"') as store:
        store.commit(state(1), tier="archive")
        (report,) = store.mirror().directories
        assert "nowhere is not there" in str(report.error)
    assert not (tmp_path / "nowhere").exists()


def test_the_store_itself_is_no_second_directory(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.archive]\ndirectory = "."') as store:
        store.commit(state(1), tier="archive")
        assert "a store of its own" in str(store.mirror().directories[0].error)


def test_a_full_disk_is_named_and_costs_nothing(store: Store, copies: Path) -> None:
    archived = fill(store, 7)
    with faults.record() as recorder:
        store.mirror()
    writes = sum(one.name == "write" for one in recorder.operations)
    for nth in range(1, writes + 1):
        shutil.rmtree(copies, ignore_errors=True)
        (store.path / "mirrors").unlink(missing_ok=True)
        with faults.inject("write", nth=nth, error=errno.ENOSPC, after=True) as fault:
            (report,) = store.mirror().directories
        assert fault.struck
        assert isinstance(report.error, StorageError) and "the disk is full" in str(report.error)
        assert str(copies) in str(report.error) or "mirrors" in str(report.error)
        if (copies / ".castore" / "castore.toml").exists():
            with castore.open(copies) as second:
                assert not incoming(second)
        assert_loads(store, archived)
    assert store.mirror().ok
    with castore.open(copies) as second:
        assert_loads(second, archived)
        assert_sound(second)


def test_what_reads_back_differently_does_not_count(
    store: Store, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1)
    from castore._fs import File

    original = File.sync

    def sync(self: File) -> None:
        original(self)
        if self.path.suffix == ".pack":
            flip(self.path, self.path.stat().st_size // 3)

    monkeypatch.setattr(File, "sync", sync)  # a disk that keeps other bytes than it was given
    (report,) = store.mirror().directories
    assert "reads back other bytes" in str(report.error) and report.copied == 0
    with castore.open(copies) as second:
        assert second.branches() == {} and not packs(second) and not incoming(second)


def test_damage_of_one_commit_keeps_no_other_from_being_copied(store: Store, copies: Path) -> None:
    archived = fill(store, 7)
    lost = store.commit({"x": state(99)["model"]}, tier="archive").id
    last = packs(store)[-1]
    for offset in range(40, last.stat().st_size // 2, 50):
        flip(last, offset)
    report = store.mirror()
    (one,) = report.directories
    assert not report.ok and one.error is None and one.copied == 3 and one.left == 1
    assert len(one.failed) == 1 and lost[:12] in one.failed[0] and "is damaged" in one.failed[0]
    with castore.open(copies) as second:
        assert_loads(second, archived)


def test_what_was_dropped_before_it_was_copied_is_named(store: Store) -> None:
    fill(store, 1)
    store.commit(state(50), tier="recovery")
    plain = store.resolve("main~1")
    store.repository.drops.add([Drop(plain, NOW, "--keep-last 1")])
    report = store.mirror()
    assert report.directories[0].dropped == 1 and report.directories[0].copied == 0 and report.ok


def test_records_are_only_shared_with_a_store_of_the_same_hash(store: Store, tmp_path: Path) -> None:
    commit = store.commit(state(1))
    with castore.store.init(tmp_path / "other", hash="blake3") as other, pytest.raises(UsageError, match="of one hash"):
        copy_commits(store.repository, other.repository, [commit], (), lambda: None, "", datetime.now(timezone.utc))


# What prune and reading make of it


def test_prune_drops_nothing_that_still_waits_to_be_copied(tmp_path: Path) -> None:
    with tiered(tmp_path, '[tiers.archive]\ndirectory = "copies"\nkeep_last = 1') as store:
        ids = {store.commit(state(seed), tier="archive").id: seed for seed in range(4)}
        for verdict in store.prune().commits[1:]:
            assert any(f"waits to be copied to {tmp_path}/copies" in reason for reason in verdict.reasons)
        assert not store.drops()
        store.mirror()
        store.prune()
        store.gc()
        assert len(store.drops()) == 3
        assert_loads(store, ids)  # from the copies
        with castore.open(tmp_path / "copies") as second:
            assert_loads(second, ids)


def test_a_lost_store_is_read_from_its_copies(store: Store, tmp_path: Path) -> None:
    archived = fill(store, 10)
    store.commit(state(50), branch="other", tier="recovery")
    store.mirror()
    store.checkout("main", tmp_path / "whole.pt")
    lose_packs(store)
    assert_loads(store, {**archived, "main": 9, "main~3": 6, "main:step=3": 3, next(iter(archived))[:10]: 0})
    into = state(1)
    store.load_into("main", into)
    assert equal_states(into["model"], state(9)["model"])
    store.checkout("main", tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()
    assert store.show("main").step == 9
    assert {one.path for one in store.entries("main", "model")} == {"model.weight", "model.half"}
    for rev in ("main~1", "other"):
        with pytest.raises((DroppedError, MissingError)):
            store.load(rev)


def test_damage_in_the_first_store_is_read_around_and_told(tmp_path: Path) -> None:
    notes: list[str] = []

    class Notes(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    tiered(tmp_path, '[tiers.archive]\ndirectory = "copies"').close()
    with castore.open(tmp_path, progress=Notes()) as store:
        out = tmp_path / "files"
        out.mkdir()
        for name in "abc":
            (out / name).write_bytes(random.Random(name).randbytes(20_000))
        store.commit_files([out], tier="archive")
        store.mirror()
        (pack,) = packs(store)
        flip(pack, pack.stat().st_size // 2)
        assert not store.fsck().ok
        store.checkout("main", tmp_path / "back")
        assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
            path.name: path.read_bytes() for path in out.iterdir()
        }
        assert any("checksum of its payload is wrong; main is read from its copy in" in text for text in notes)
        assert not store.fsck().ok  # reading heals nothing, and hides nothing
        shutil.rmtree(tmp_path / "copies")
        with pytest.raises(CorruptError):
            store.load("main")
        assert any("copies does not hold the store of copies" in text for text in notes)


def test_a_state_that_was_lost_in_both_places_is_the_error_of_the_first(store: Store, copies: Path) -> None:
    fill(store, 1)
    with pytest.raises(RevisionError, match="nonsense"):
        store.load("nonsense")
    assert directories(store.repository) == {copies: ("archive",)}
    lose_packs(store)
    with pytest.raises(MissingError):
        store.load("main")


def test_the_copies_can_take_the_place_of_the_store(store: Store, copies: Path, tmp_path: Path) -> None:
    archived = fill(store, 7)
    store.mirror()
    shutil.copytree(copies, tmp_path / "new")
    with castore.open(tmp_path / "new") as new:
        commit = new.commit(state(8), step=8)
        assert commit.parents == (store.resolve("main"),)
        assert_loads(new, {**archived, commit.id: 8})
        assert_sound(new)
