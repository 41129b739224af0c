"""Branches, tags, HEAD and reflogs through the Store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import castore
from castore.errors import RefExistsError, RefNameError, RevisionError, UsageError
from castore.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = castore.open(tmp_path, create=True)
    for number in range(3):
        store.commit({"n": number}, message=f"commit {number}")
    return store


def test_a_new_store_follows_main_which_has_no_commit_yet(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        assert (store.head().branch, store.head().commit) == ("main", None)
        assert store.branches() == store.tags() == {}
        with pytest.raises(RevisionError):
            store.load()
        with pytest.raises(RevisionError):
            list(store.log())


def test_branches_are_made_moved_and_deleted(store: Store) -> None:
    first = store.resolve("main~2")
    assert store.branch("side", "main~2") == first
    assert store.branches() == {"main": store.resolve("main"), "side": first}
    with pytest.raises(RefExistsError):
        store.branch("side", "main")
    store.branch("side", "main~1", force=True)
    assert store.resolve("side") == store.resolve("main~1")
    assert store.delete_branch("side") == store.resolve("main~1")
    assert "side" not in store.branches()
    with pytest.raises(RevisionError):
        store.delete_branch("side")


def test_a_branch_with_commits_of_its_own_is_deleted_only_by_force(store: Store) -> None:
    store.branch("side")
    store.commit({"n": 9}, branch="side")
    with pytest.raises(UsageError, match="-D"):
        store.delete_branch("side")
    store.tag("kept", "side")
    store.delete_branch("side")
    assert store.load("kept") == {"n": 9}


def test_the_branch_that_head_follows_is_not_deleted(store: Store) -> None:
    with pytest.raises(UsageError, match="switch"):
        store.delete_branch("main", force=True)
    store.branch("side")
    store.switch("side")
    assert (store.head().branch, store.load()) == ("side", {"n": 2})
    store.delete_branch("main")
    with pytest.raises(RevisionError):
        store.switch("main")
    assert store.head().branch == "side"


def test_a_commit_goes_to_the_branch_that_is_named_and_to_heads_by_default_for_files(
    store: Store, tmp_path: Path
) -> None:
    store.branch("side")
    store.switch("side")
    (tmp_path / "file").write_bytes(b"x")
    made = store.commit_files([tmp_path / "file"])
    assert store.resolve("side") == made.id
    made = store.commit({"n": 5})
    assert store.resolve("main") == made.id
    assert store.load("side") == b"x"


def test_tags_stay_where_they_are(store: Store) -> None:
    store.tag("v1", "main~1")
    store.commit({"n": 9})
    assert store.load("v1") == {"n": 1}
    with pytest.raises(RefExistsError):
        store.tag("v1", "main")
    store.tag("v1", "main", force=True)
    assert store.load("v1") == {"n": 9}
    assert store.delete_tag("v1") == store.resolve("main")
    with pytest.raises(RevisionError):
        store.delete_tag("v1")


@pytest.mark.parametrize("name", ["", "a..b", "-x", "a b", "HEAD", "a/", "a.lock", "../x", "0" * 32, "x~1", "con"])
def test_names_that_are_none_are_refused_with_nothing_written(store: Store, name: str) -> None:
    before = sorted(store.path.rglob("*"))
    for make in (
        lambda: store.branch(name),
        lambda: store.tag(name),
        lambda: store.commit({"n": 1}, branch=name),
        lambda: store.delete_branch(name),
    ):
        with pytest.raises(RefNameError):
            make()
    assert sorted(store.path.rglob("*")) == before


def test_a_new_branch_whose_name_clashes_is_refused(store: Store) -> None:
    for name in ("MAIN", "main/sub"):
        with pytest.raises(RefExistsError):
            store.commit({"n": 1}, branch=name)
        with pytest.raises(RefExistsError):
            store.branch(name)
    assert list(store.branches()) == ["main"]


def test_reflogs_tell_what_a_ref_was(store: Store) -> None:
    before = store.resolve("main")
    store.branch("main", "main~2", force=True)
    entries = store.reflog("main")
    assert [(entries[0].old, entries[0].new)] == [(before, store.resolve("main"))]
    assert entries[1].message == "commit: commit 2"
    assert len(entries) == 4
    assert store.load("main@{1}") == {"n": 2}
    assert [entry.new for entry in store.reflog()] == [entry.new for entry in entries]
    with pytest.raises(RevisionError):
        store.reflog("nothing")


def test_reflog_entries_are_expired_by_their_age(store: Store) -> None:
    assert store.expire_reflog("main", datetime(2000, 1, 1, tzinfo=timezone.utc)) == 0
    assert store.expire_reflog("main", datetime.now(timezone.utc) + timedelta(days=1)) == 3
    assert store.reflog("main") == []
    assert len(store.reflog("HEAD")) == 3
    assert store.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1)) == 3
    assert store.load("main") == {"n": 2}


def test_the_log_goes_back_from_one_or_several_revisions(store: Store) -> None:
    store.branch("side", "main~1")
    store.commit({"n": 9}, branch="side", message="side")
    assert [commit.message for commit in store.log("side")] == ["side", "commit 1", "commit 0"]
    assert {commit.message for commit in store.log(["main", "side"])} == {"side", "commit 2", "commit 1", "commit 0"}
    assert [commit.message for commit in store.log(limit=1)] == ["commit 2"]
    assert list(store.log(limit=0)) == []
