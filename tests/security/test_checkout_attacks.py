"""Commits of files whose names lead elsewhere: a checkout writes in its target, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.errors import CastoreError, CorruptError, TargetExistsError, UnsafePathError
from castore.objects import nodes
from castore.store import Store
from tests.security.forged import file_of, forge

CONTENT = b"planted"
NAMES = [
    *("..", ".", "", "/etc/planted", "../planted", "a/../../planted", "a\\..\\planted", "C:planted", "nul\0planted"),
    *("CON", "aux.txt", "nul .x", "COM1", "lpt9.pt", "COM\u00b9", "CONIN$"),
    *(".castore", ".CASTORE", ".castore.", ".castore ", ".cast\u200core", ".Castore . ."),
    *("x" * 256, "x" * 100_000, "\u00e9" * 128),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with castore.open(tmp_path_factory.mktemp("checkout"), create=True) as opened:
        yield opened


def everything(root: Path) -> set[Path]:
    return {path.relative_to(root) for path in root.rglob("*")}


@pytest.mark.parametrize("below", ["", "sub"])
@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_a_name_that_leads_elsewhere_is_never_written(store: Store, tmp_path: Path, name: str, below: str) -> None:
    file = file_of(store, CONTENT)
    inside = {name: file, "good.txt": file}
    forge(store, nodes.Directory({below: nodes.Directory(dict(inside))} if below else dict(inside)), [CONTENT])
    (tmp_path / "work").mkdir()
    before = everything(tmp_path / "work")
    with pytest.raises(UnsafePathError) as caught:
        store.checkout("evil", tmp_path / "work/out", force=True)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    written = everything(tmp_path / "work") - before
    assert written <= {Path("out"), Path("out/sub"), Path("out/good.txt"), Path("out/sub/good.txt")}
    assert not Path("/etc/planted").exists()


def test_directories_nested_beyond_all_bounds_are_refused(store: Store, tmp_path: Path) -> None:
    root = nodes.Directory({"f": file_of(store, CONTENT), "g": file_of(store, CONTENT)})
    for _ in range(150):
        root = nodes.Directory({"d" * 200: root})
    forge(store, root, [CONTENT])
    with pytest.raises((UnsafePathError, CorruptError)):
        store.checkout("evil", tmp_path / "out")


@pytest.mark.parametrize(
    ("one", "other"), [("Model.pt", "model.PT"), ("stra\u00dfe", "STRASSE"), ("\u00e9", "e\u0301")]
)
def test_names_that_are_one_file_elsewhere_are_refused(store: Store, tmp_path: Path, one: str, other: str) -> None:
    entries: dict[str, nodes.File | nodes.Directory] = {name: file_of(store, CONTENT) for name in (one, other)}
    forge(store, nodes.Directory(entries), [CONTENT])
    with pytest.raises(UnsafePathError, match="only by case"):
        store.checkout("evil", tmp_path / "out")


def test_a_link_in_the_target_is_not_written_through(store: Store, tmp_path: Path) -> None:
    entries: dict[str, nodes.File | nodes.Directory] = {
        "dir": nodes.Directory({"f": file_of(store, CONTENT)}),
        "g": file_of(store, CONTENT),
    }
    forge(store, nodes.Directory(entries), [CONTENT])
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/g").write_bytes(b"precious")
    for name, target in (("dir", "../victim"), ("g", "../victim/g")):
        out = tmp_path / f"out-{name}"
        out.mkdir()
        (out / name).symlink_to(target)
        with pytest.raises(UnsafePathError, match="symlink"):
            store.checkout("evil", out, force=True)
    assert everything(tmp_path / "victim") == {Path("g")}
    assert (tmp_path / "victim/g").read_bytes() == b"precious"


def test_a_file_that_is_there_is_kept_unless_forced(store: Store, tmp_path: Path) -> None:
    forge(store, nodes.Directory({"f": file_of(store, CONTENT), "g": file_of(store, CONTENT)}), [CONTENT])
    (tmp_path / "out").mkdir()
    (tmp_path / "out/f").write_bytes(b"precious")
    with pytest.raises(TargetExistsError):
        store.checkout("evil", tmp_path / "out")
    assert (tmp_path / "out/f").read_bytes() == b"precious"


def test_a_file_that_lies_about_its_size_is_refused(store: Store, tmp_path: Path) -> None:
    for size in (1, len(CONTENT) + 1, (1 << 62) - 1):
        lying = file_of(store, CONTENT)
        lying.size = size
        forge(store, nodes.Directory({"f": lying}), [CONTENT])
        with pytest.raises(CastoreError):
            store.checkout("evil", tmp_path / "out.bin")
        assert not (tmp_path / "out.bin").exists()
