from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from castore.errors import StateError
from castore.state.files import FileSource, safe_tree, scan


def test_spans_are_read_by_many_threads_at_once(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(range(256)) * 4096)
    wrong: list[int] = []

    def read(first: int) -> None:
        for offset in range(first, 1 << 20, 4096):
            if source.span(offset, 17) != bytes((offset + i) % 256 for i in range(17)):
                wrong.append(offset)

    with FileSource(path) as source:
        threads = [threading.Thread(target=read, args=(first,)) for first in range(0, 256, 64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        source.verify_unchanged()
    assert not wrong


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(1, 1))


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.rename(path)


@pytest.mark.parametrize("change", [append, overwrite, replace, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: object) -> None:
    path = tmp_path / "step1.pt"
    path.write_bytes(b"x" * 1000)
    with FileSource(path) as source:
        source.verify_unchanged()
        change(path)  # type: ignore[operator]
        with pytest.raises(StateError, match=r"step1\.pt changed while it was read"):
            source.verify_unchanged()


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step1.pt"
    path.write_bytes(b"x" * 1000)
    with FileSource(path) as source:
        os.truncate(path, 10)
        with pytest.raises(StateError, match="changed"):
            source.span(0, 1000)


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateError, match="fifo"):
        scan(tmp_path / "pipe")
    with pytest.raises(StateError, match="a directory"):
        scan(tmp_path)
    with pytest.raises(StateError, match="no such file"):
        scan(tmp_path / "missing")


def test_a_directory_is_walked_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in ("b/z.txt", "b/a.txt", "a.txt", "é.txt", "B2.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "none").mkdir()
    tree = safe_tree(tmp_path)
    assert ["/".join(parts) for parts, _ in tree.files()] == ["B2.txt", "a.txt", "b/a.txt", "b/z.txt", "é.txt"]
    assert tree.entries.keys() == {"B2.txt", "a.txt", "b", "none", "é.txt"}
    assert tree.skipped == []


def test_a_store_inside_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "run" / ".castore" / "packs").mkdir(parents=True)
    (tmp_path / "run" / "model.pt").write_bytes(b"")
    tree = safe_tree(tmp_path)
    assert [parts for parts, _ in tree.files()] == [("run", "model.pt")]
    assert len(tree.skipped) == 1


def test_links_to_files_are_followed_and_links_to_directories_are_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"1")
    top = tmp_path / "top"
    top.mkdir()
    (top / "file").symlink_to(tmp_path / "real" / "file")
    (top / "directory").symlink_to(tmp_path / "real")
    (top / "above").symlink_to("..")
    (top / "dangling").symlink_to("nowhere")
    (top / "loop").symlink_to("loop")
    tree = safe_tree(top)
    assert list(tree.entries) == ["file"]
    assert [line.rpartition("/")[2] for line in tree.skipped] == [
        "above: a symlink to a directory",
        "dangling: a symlink that leads nowhere",
        "directory: a symlink to a directory",
        "loop: a symlink that leads nowhere",
    ]


def test_special_files_are_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StateError, match=r"pipe: it is a fifo"):
        safe_tree(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the address of a socket is limited to 107 bytes
        try:
            server.bind("talk")
        finally:
            os.chdir(here)
        with pytest.raises(StateError, match=r"talk: it is a socket"):
            safe_tree(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9.pt", b"back\\slash", b"NUL", b"com1.txt", b"c:drive"])
def test_names_that_no_checkout_could_write_are_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"")
    with pytest.raises(StateError) as caught:
        safe_tree(tmp_path)
    assert str(caught.value).isprintable()
    assert repr(os.fsdecode(name)).strip("'")[:3] in str(caught.value)


def test_names_that_differ_only_by_case_are_refused(tmp_path: Path) -> None:
    (tmp_path / "Model.pt").write_bytes(b"")
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(StateError, match="only by case"):
        safe_tree(tmp_path)
