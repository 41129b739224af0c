from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from castore import _fs
from castore.errors import (
    CorruptError,
    RefConflictError,
    RefExistsError,
    RefNameError,
    RevisionError,
    UsageError,
)
from castore.history.reflog import Change
from castore.history.refs import Head, Refs

A, B, C = "a" * 32, "b" * 32, "c" * 32
CHANGE = Change("ada", datetime(2025, 1, 1, tzinfo=timezone.utc), "commit: one")


@pytest.fixture
def refs(tmp_path: Path) -> Refs:
    refs = Refs(tmp_path, 32, _fs.Lock(tmp_path / "lock", timeout_s=5))
    with refs.lock.held():
        refs.initialise()
    return refs


def test_a_new_store_has_an_unborn_main(refs: Refs, tmp_path: Path) -> None:
    assert refs.head() == Head("main", None)
    assert refs.branches() == refs.tags() == {}
    assert (tmp_path / "HEAD").read_bytes() == b"ref: refs/heads/main\n"


def test_a_branch_moves_from_the_value_that_was_expected(refs: Refs, tmp_path: Path) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.update_branch("main", B, A, CHANGE)
    assert refs.branch("main") == B
    assert refs.head() == Head("main", B)
    assert (tmp_path / "refs/heads/main").read_bytes() == B.encode() + b"\n"


def test_a_lost_race_says_where_the_branch_is_and_who_moved_it(refs: Refs) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.update_branch("main", B, A, Change("grace", CHANGE.time, "commit: two"))
    with pytest.raises(RefConflictError, match=rf"moved from {A} meanwhile by 'grace' .*now at {B}; commit again"):
        refs.update_branch("main", C, A, CHANGE)
    with pytest.raises(RefConflictError, match="was created meanwhile"):
        refs.update_branch("main", C, None, CHANGE)
    with pytest.raises(RefConflictError, match="was deleted by another process"):
        refs.update_branch("gone", C, A, CHANGE)
    assert refs.branch("main") == B
    assert len(refs.reflog.read("refs/heads/main")) == 2


def test_moving_a_branch_is_logged_for_it_and_for_the_head_that_follows_it(refs: Refs) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.update_branch("other", B, None, CHANGE)
    assert [entry.new for entry in refs.reflog.read("HEAD")] == [A]
    assert [entry.new for entry in refs.reflog.read("refs/heads/other")] == [B]


def test_branches_are_listed_sorted_with_slashes(refs: Refs) -> None:
    for name in ("exp/b", "main", "exp/a"):
        refs.update_branch(name, A, None, CHANGE)
    assert list(refs.branches().items()) == [("exp/a", A), ("exp/b", A), ("main", A)]
    assert refs.branch("exp") is None
    assert refs.branch("main/x") is None


@pytest.mark.parametrize(("first", "second"), [("main", "MAIN"), ("a", "a/b"), ("a/b", "a"), ("A/b", "a")])
def test_refs_that_could_not_live_on_every_file_system_together_are_refused(
    refs: Refs, first: str, second: str
) -> None:
    refs.update_branch(first, A, None, CHANGE)
    refs.create_tag(first, A)
    with pytest.raises(RefExistsError):
        refs.update_branch(second, B, None, CHANGE)
    with pytest.raises(RefExistsError):
        refs.create_tag(second, B)
    assert refs.branches() == refs.tags() == {first: A}
    assert refs.reflog.read(f"refs/heads/{second}") == []


def test_a_tag_is_created_once(refs: Refs) -> None:
    refs.create_tag("v1.0", A)
    with pytest.raises(RefExistsError, match="exists already"):
        refs.create_tag("v1.0", B)
    assert refs.tag("v1.0") == A
    assert refs.tags() == {"v1.0": A}


def test_a_tag_is_moved_only_from_where_it_was_expected(refs: Refs) -> None:
    refs.create_tag("best", A)
    with pytest.raises(RefConflictError):
        refs.move_tag("best", C, B)
    with pytest.raises(RefConflictError, match="deleted by another process"):
        refs.move_tag("none", C, A)
    refs.move_tag("best", B, A)
    assert refs.tags() == {"best": B}


def test_a_deleted_branch_takes_its_log_and_empty_directories_with_it(refs: Refs, tmp_path: Path) -> None:
    refs.update_branch("a/b/c", A, None, CHANGE)
    refs.delete_branch("a/b/c", A)
    assert refs.branches() == {}
    assert list((tmp_path / "refs/heads").iterdir()) == list((tmp_path / "logs/refs/heads").iterdir()) == []
    refs.update_branch("a", B, None, CHANGE)
    assert [entry.old for entry in refs.reflog.read("refs/heads/a")] == [None]


def test_deleting_keeps_directories_that_others_use(refs: Refs) -> None:
    refs.update_branch("a/b", A, None, CHANGE)
    refs.update_branch("a/c", B, None, CHANGE)
    refs.delete_branch("a/b", A)
    assert refs.branches() == {"a/c": B}
    assert [entry.new for entry in refs.reflog.read("refs/heads/a/c")] == [B]


def test_deleting_a_ref_that_moved_meanwhile_is_a_lost_race(refs: Refs) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.create_tag("v1", A)
    with pytest.raises(RefConflictError):
        refs.delete_branch("main", B)
    with pytest.raises(RefConflictError):
        refs.delete_tag("v1", B)
    with pytest.raises(RefConflictError, match="deleted by another process"):
        refs.delete_tag("v2", B)
    refs.delete_tag("v1", A)
    assert refs.tags() == {}
    assert refs.branches() == {"main": A}


def test_deleting_the_branch_of_head_leaves_head_without_commits(refs: Refs) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.delete_branch("main", A)
    assert refs.head() == Head("main", None)


def test_head_follows_another_branch_or_names_a_commit(refs: Refs, tmp_path: Path) -> None:
    refs.update_branch("main", A, None, CHANGE)
    refs.update_branch("exp", B, None, CHANGE)
    refs.set_head(CHANGE, branch="exp")
    assert refs.head() == Head("exp", B)
    refs.set_head(CHANGE, commit=C)
    assert refs.head() == Head(None, C)
    assert (tmp_path / "HEAD").read_bytes() == C.encode() + b"\n"
    refs.set_head(CHANGE, branch="unborn/yet")
    assert refs.head() == Head("unborn/yet", None)
    assert [(entry.old, entry.new) for entry in refs.reflog.read("HEAD")] == [(None, A), (A, B), (B, C)]


def test_head_needs_exactly_one_target(refs: Refs) -> None:
    with pytest.raises(UsageError):
        refs.set_head(CHANGE)
    with pytest.raises(UsageError):
        refs.set_head(CHANGE, branch="main", commit=A)


@pytest.mark.parametrize("commit", ["", "abc", "A" * 32, "a" * 33, "../" + "a" * 29])
def test_a_ref_takes_full_lowercase_ids_only(refs: Refs, commit: str) -> None:
    with pytest.raises(RevisionError, match="not a full commit id"):
        refs.update_branch("main", commit, None, CHANGE)
    with pytest.raises(RevisionError):
        refs.create_tag("v1", commit)
    with pytest.raises(RevisionError):
        refs.set_head(CHANGE, commit=commit)
    assert refs.branches() == refs.tags() == {}


@pytest.mark.parametrize("name", ["../HEAD", "/etc/passwd", "a/../../b", "", "HEAD"])
def test_a_name_cannot_lead_out_of_the_refs(refs: Refs, name: str) -> None:
    acts: list[Callable[[], object]] = [
        lambda: refs.branch(name),
        lambda: refs.tag(name),
        lambda: refs.update_branch(name, A, None, CHANGE),
        lambda: refs.create_tag(name, A),
        lambda: refs.delete_branch(name, A),
        lambda: refs.set_head(CHANGE, branch=name),
    ]
    for act in acts:
        with pytest.raises(RefNameError):
            act()


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"hello\n",
        A[:31].encode(),
        A.encode() * 100,
        b"\xff" * 33,
        A.upper().encode(),
        A.encode() + b"\n\n",
        b"\0" * 33,
    ],
)
def test_a_damaged_ref_is_named_with_what_to_do(refs: Refs, tmp_path: Path, garbage: bytes) -> None:
    refs.update_branch("good", A, None, CHANGE)
    (tmp_path / "refs/heads/main").write_bytes(garbage)
    reads: list[Callable[[], object]] = [
        lambda: refs.branch("main"),
        refs.branches,
        refs.head,
        lambda: refs.delete_branch("main", A),
    ]
    for read in reads:
        with pytest.raises(CorruptError, match=r"refs/heads/main does not hold a commit id.*logs/refs/heads/main"):
            read()
    assert refs.branch_names() == ["good", "main"]
    assert refs.branch("good") == A


def test_an_id_without_its_newline_is_read(refs: Refs, tmp_path: Path) -> None:
    (tmp_path / "refs/heads/main").write_bytes(A.encode())
    assert refs.branch("main") == A


def test_symbolic_links_are_refused_and_never_followed(refs: Refs, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(A.encode() + b"\n")
    (tmp_path / "refs/heads/file").symlink_to(outside / "secret")
    (tmp_path / "refs/heads/dir").symlink_to(outside)
    (tmp_path / "refs/heads/loop").symlink_to(tmp_path / "refs")
    assert refs.branch_names() == ["dir", "file", "loop"]
    for name in ("file", "dir", "dir/secret", "loop/heads/file"):
        with pytest.raises(CorruptError, match="symbolic link"):
            refs.branch(name)
        with pytest.raises(CorruptError):
            refs.update_branch(name, B, A, CHANGE)
    with pytest.raises(CorruptError):
        refs.branches()
    assert (outside / "secret").read_bytes() == A.encode() + b"\n"


def test_a_pipe_in_place_of_a_ref_does_not_block(refs: Refs, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "refs/heads/pipe")
    with pytest.raises(CorruptError, match="not a regular file"):
        refs.branch("pipe")


@pytest.mark.parametrize(
    "text", [b"", b"ref: refs/heads/\n", b"ref: refs/heads/../../x\n", b"ref: refs/tags/v1\n", b"abc\n"]
)
def test_a_damaged_head_says_how_to_mend_it_and_set_head_does(refs: Refs, tmp_path: Path, text: bytes) -> None:
    refs.update_branch("main", A, None, CHANGE)
    (tmp_path / "HEAD").write_bytes(text)
    with pytest.raises(CorruptError, match=r"HEAD is damaged; write the line `ref: refs/heads/BRANCH`"):
        refs.head()
    with pytest.raises(CorruptError):
        refs.update_branch("main", B, A, CHANGE)
    assert refs.branch("main") == A
    refs.set_head(CHANGE, branch="main")
    assert refs.head() == Head("main", A)


def test_a_missing_head_is_reported(refs: Refs, tmp_path: Path) -> None:
    (tmp_path / "HEAD").unlink()
    with pytest.raises(CorruptError, match="HEAD is missing"):
        refs.head()


def test_what_a_crash_leaves_behind_is_ignored_and_can_be_removed(refs: Refs, tmp_path: Path) -> None:
    refs.update_branch("exp/a", A, None, CHANGE)
    leftovers = [
        tmp_path / ".HEAD.17.abc.tmp",
        tmp_path / "refs/heads/.main.17.abc.tmp",
        tmp_path / "refs/heads/exp/.a.17.abc.tmp",
        tmp_path / "refs/heads/gone/.b.17.abc.tmp",
        tmp_path / "refs/tags/.v1.17.abc.tmp",
        tmp_path / "logs/refs/heads/.main.17.abc.tmp",
    ]
    for path in leftovers:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"aaaa")
    assert refs.branches() == {"exp/a": A}
    assert refs.tags() == {}
    assert refs.reflog.refs() == ["refs/heads/exp/a"]

    refs.remove_leftovers()
    assert not any(path.exists() for path in leftovers)
    assert not (tmp_path / "refs/heads/gone").exists()
    assert refs.branches() == {"exp/a": A}
    assert refs.head() == Head("main", None)


def test_a_directory_left_by_an_interrupted_deletion_is_no_obstacle(refs: Refs, tmp_path: Path) -> None:
    (tmp_path / "refs/heads/a/b").mkdir(parents=True)
    (tmp_path / "refs/heads/a/.b.17.abc.tmp").write_bytes(b"")
    (tmp_path / "logs/refs/heads/a").mkdir()
    (tmp_path / "logs/refs/heads/a/b").write_bytes(b"")  # the branch a/b is gone, its log not yet
    (tmp_path / "logs/refs/heads/x").write_bytes(b"")  # and so for x
    refs.update_branch("a", A, None, CHANGE)
    refs.update_branch("x/y", B, None, CHANGE)
    assert refs.branches() == {"a": A, "x/y": B}
    assert [entry.new for entry in refs.reflog.read("refs/heads/a")] == [A]
    assert [entry.new for entry in refs.reflog.read("refs/heads/x/y")] == [B]


def test_files_that_are_no_refs_are_not_listed(refs: Refs, tmp_path: Path) -> None:
    (tmp_path / "refs/heads/main~").write_bytes(b"an editor's backup")
    (tmp_path / "refs/heads/.DS_Store").write_bytes(b"")
    (tmp_path / "refs/heads/x.lock").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/refs/heads/\xff")).write_bytes(b"")
    assert refs.branches() == {}


def test_the_longest_name_can_be_a_branch(refs: Refs) -> None:
    name = "é" * 100 + "/" + "b" * 54
    refs.update_branch(name, A, None, CHANGE)
    assert refs.branches() == {name: A}


def test_the_ref_does_not_move_when_its_log_cannot_be_written(refs: Refs, tmp_path: Path) -> None:
    refs.update_branch("main", A, None, CHANGE)
    log = tmp_path / "logs/refs/heads/main"
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(CorruptError):
        refs.update_branch("main", B, A, CHANGE)
    assert refs.branch("main") == A
