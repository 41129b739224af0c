from __future__ import annotations

import os
from pathlib import Path

import pytest

from castore.errors import TargetExistsError, UnsafePathError
from castore.state.files.target import OutputFile, OutputTree, safe_join

UNSAFE = [
    "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\\b", "..\\x", "a\0b", "C:",
    "c:x", "C:/x", "CON",
    "con.txt", "a/NUL", "nul .txt", "Com1", "lpt9.log", "aux ", "a/" * 300 + "x", "x" * 256, "\udcff",
]  # fmt: skip
SAFE = [
    "a",
    "a/b.pt",
    "console",
    "..a",
    "a..b",
    ".hidden",
    "comet",
    "null",
    "a b",
    "ünï/cødé.pt",
    "model-00001-of-2.bin",
]


@pytest.mark.parametrize("relative", UNSAFE)
def test_paths_that_lead_elsewhere_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(UnsafePathError):
        safe_join(tmp_path, relative)
    with OutputTree(tmp_path / "out") as tree, pytest.raises(UnsafePathError):
        tree.file(relative)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("relative", SAFE)
def test_ordinary_paths_are_written_below_the_root(tmp_path: Path, relative: str) -> None:
    assert safe_join(tmp_path, relative) == tmp_path / relative
    with OutputTree(tmp_path / "out") as tree, tree.file(relative) as out:
        out.write(b"data")
    assert (tmp_path / "out" / relative).read_bytes() == b"data"


def test_names_that_differ_only_by_case_are_refused_within_one_checkout(tmp_path: Path) -> None:
    with OutputTree(tmp_path) as tree:
        with tree.file("Dir/File") as out:
            out.write(b"1")
        with tree.file("Dir/other") as out:
            out.write(b"2")
        for relative in ("Dir/file", "dir/third", "DIR"):
            with pytest.raises(UnsafePathError, match="only by case"):
                tree.file(relative)


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_through_a_symlink(tmp_path: Path, force: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(outside)
    (root / "file").symlink_to(outside / "file")
    (root / "deep").mkdir()
    (root / "deep" / "er").symlink_to("../../outside")
    with OutputTree(root, force) as tree:
        for relative in ("linked/x", "deep/er/x", "file", "linked"):
            with pytest.raises(UnsafePathError, match="symlink"):
                tree.file(relative)
        with pytest.raises(UnsafePathError, match="symlink"):
            tree.directory("linked/new")
    assert list(outside.iterdir()) == []


def test_a_directory_that_is_swapped_for_a_symlink_meanwhile_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with OutputTree(root) as tree:
        with tree.file("sub/file") as out:
            out.write(b"data")
            (root / "sub").rename(root / "moved")
            (root / "sub").symlink_to(tmp_path)
        assert (root / "moved" / "file").read_bytes() == b"data"
        assert not (tmp_path / "file").exists()


def test_existing_files_are_kept_unless_forced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with OutputTree(tmp_path) as tree, pytest.raises(TargetExistsError, match="exists"):
        tree.file("file")
    assert (tmp_path / "file").read_bytes() == b"mine"
    with OutputTree(tmp_path, force=True) as tree, tree.file("file") as out:
        out.write(b"theirs")
    assert (tmp_path / "file").read_bytes() == b"theirs"


def test_a_file_that_appears_while_another_is_written_is_kept(tmp_path: Path) -> None:
    def write() -> None:
        with OutputFile.at(tmp_path / "file") as out:
            out.write(b"theirs")
            (tmp_path / "file").write_bytes(b"mine")

    with pytest.raises(TargetExistsError):
        write()
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("force", [False, True])
def test_directories_and_files_never_replace_each_other(tmp_path: Path, force: bool) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    os.mkfifo(tmp_path / "pipe")
    with OutputTree(tmp_path, force) as tree:
        for relative in ("directory", "file/below", "pipe"):
            with pytest.raises(TargetExistsError):
                tree.file(relative)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_an_error_while_writing_leaves_no_trace(tmp_path: Path) -> None:
    with OutputTree(tmp_path) as tree, pytest.raises(RuntimeError), tree.file("file") as out:
        out.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_only_once_it_is_whole(tmp_path: Path) -> None:
    with OutputFile.at(tmp_path / "file") as out:
        out.write(b"data")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_bytes() == b"data"


def test_empty_directories_are_made(tmp_path: Path) -> None:
    with OutputTree(tmp_path) as tree:
        tree.directory("a/b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_root_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TargetExistsError, match="it is a file"):
        OutputTree(tmp_path / "file")


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "file").write_bytes(b"")
    with OutputTree(tmp_path) as tree:
        for relative in ("file", "file/x", "../x"):
            with pytest.raises((TargetExistsError, UnsafePathError)):
                tree.file(relative)
        with tree.file("a/b/c") as out:
            out.write(b"1")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
