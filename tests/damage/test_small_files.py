"""Nothing is deleted, and no load goes wrong, on the word of a small file or an index that is damaged."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import castore
from castore import config
from castore.errors import CorruptError
from castore.store import Store, salvage
from castore.testing.states import equal_states
from tests.chunks import fixture_v1
from tests.damage.test_salvage import damage
from tests.samples import assert_loads, flip, packs, state
from tests.tiered import tiered

NOW = datetime.now(timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


def test_gc_takes_nothing_by_changed_drops(store: Store) -> None:
    times = [NOW - timedelta(hours=hours) for hours in (3, 2, 1)]
    history = {store.commit(state(seed), time=time).id: seed for seed, time in enumerate(times)}
    store.prune({"drop_components": "tied:older-than=1m"})
    path = store.path / "dropped"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"\ttied", b")tied"))  # "all of it", by a bit of a TAB
    with pytest.raises(CorruptError, match="first line"):
        store.gc()
    (error,) = store.fsck().errors
    assert set(error.commits) <= history.keys() and "dropped" in error.problem
    path.write_bytes(good)
    store.gc()
    for commit, seed in history.items():
        assert equal_states(store.load(commit, only="model"), {"model": state(seed)["model"]})


def test_what_a_doubtful_line_of_a_reflog_leads_to_is_kept(store: Store) -> None:
    store.commit(state(1))
    lost = store.commit(state(2)).id
    store.branch("main", "main~1", force=True)
    path = store.path / "logs/refs/heads/main"
    head = store.path / "logs/HEAD"
    for log in (path, head):
        log.write_bytes(re.sub(rb" 1(\d{9}\.)", rb" 0\1", log.read_bytes()))  # times of long ago
    assert any("damaged lines" in error.problem for error in store.fsck().errors)
    store.gc()
    assert_loads(store, {lost: 2})


def test_loads_go_on_when_the_index_says_what_packs_do_not(store: Store) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(3)}
    access = store.repository.chunks.access
    for change in ("offset", "pack", "gone", "raw_length", "kind"):
        access.refresh()
        index = access.index
        chunk, place = next((one, place) for one, place in index.items() if place.kind == castore.chunks.pack.TREE)
        if change == "gone":
            index.update(gone_records=[chunk])
        else:
            value = (
                bytes(16) if change == "pack" else getattr(place, change) + 1
            )  # the kind of a tree, plus 1: a commit
            index.update(records=[(chunk, replace(place, **{change: value}))])
        with castore.open(store.path) as other:
            assert_loads(other, history)
        access.refresh()
        assert access.index.get(chunk) == place
    assert store.fsck().ok


def test_an_index_is_not_made_anew_for_damage_of_packs(store: Store) -> None:
    store.commit(state(1))
    path = packs(store)[0]
    inode = (store.path / "index/data.mdb").stat().st_ino
    flip(path, 100)
    with castore.open(store.path) as other, pytest.raises(CorruptError):
        other.load("main")
    assert (store.path / "index/data.mdb").stat().st_ino == inode


def test_nor_for_deltas_on_a_lost_base(store: Store) -> None:
    """They are in their packs and not in the index, and no index that is made anew could have them."""
    first, second = (store.commit(state(seed)) for seed in (1, 2))
    assert second.stats.total.delta_bytes
    packs(store)[0].unlink()
    shutil.rmtree(store.path / "index")
    inodes = set()
    for _ in range(3):
        with castore.open(store.path) as other, pytest.raises(CorruptError):
            other.load(second.id)
        inodes.add((store.path / "index/data.mdb").stat().st_ino)
    assert len(inodes) == 1 and first.id != second.id


def test_a_head_that_names_another_branch_is_told(store: Store) -> None:
    store.commit(state(1))
    store.branch("nain")
    for text, is_right in (("nain", False), ("main", True), ("oain", False)):
        (store.path / "HEAD").write_text(f"ref: refs/heads/{text}\n")
        assert any("audit log" in error.problem for error in store.fsck().errors) != is_right
    store.switch("nain")
    assert store.fsck().ok


def test_a_setting_that_packs_contradict_is_told(store: Store) -> None:
    store.commit(state(1))
    path = store.path / config.NAME
    good = path.read_text()
    for old, new, said in (("required_features", "requised_features", "packs-2"), ('uuid = "', 'uuid = "0', "uuid")):
        path.write_text(good.replace(old, new))
        with castore.open(store.path) as other:
            assert any(said in error.problem for error in other.fsck().errors)


def test_empty_files_of_before_there_were_checks_mean_nothing(tmp_path: Path) -> None:
    fixture_v1.copy_of_the_store(tmp_path / ".castore")
    (tmp_path / ".castore" / "pins").write_bytes(b"")
    with castore.open(tmp_path) as store:
        assert store.fsck().ok
        store.commit(state(1))
        assert store.fsck().ok and not (store.path / "pins").exists()
        (store.path / "pins").write_bytes(b"")
        assert ["pins" in error.problem for error in store.fsck().errors] == [True]


def test_history_after_a_lost_commit_is_mirrored(tmp_path: Path) -> None:
    (tmp_path / "disk2").mkdir()
    tables = f"[tiers.archive]\ndirectory = '{tmp_path}/disk2/copies'\n"
    with tiered(tmp_path / "old", tables) as store:
        ids = [store.commit(state(seed), tier="archive").id for seed in range(3)]
        paths = packs(store)
    damage(paths[1], castore.chunks.pack.COMMIT)
    assert salvage(tmp_path / "old", tmp_path / "new").lost_commits == (ids[1],)
    shutil.rmtree(tmp_path / "old")
    with castore.open(tmp_path / "new") as store:
        assert store.mirror().ok and store.fsck().ok
    with castore.open(tmp_path / "disk2" / "copies") as copies:
        assert copies.fsck().ok
        assert [commit.id for commit in copies.log("main")] == [ids[2]]
        assert_loads(copies, {ids[0]: 0, ids[2]: 2})
