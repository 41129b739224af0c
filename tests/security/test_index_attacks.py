"""An index that somebody wrote: one from elsewhere is never opened, and no index makes wrong data of good packs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import castore
from castore.chunks.index import Index, Place
from castore.errors import CastoreError
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import assert_sound, state

Lie = Callable[[list[tuple[bytes, Place]]], list[tuple[bytes, Place]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with castore.open(tmp_path / "s", create=True) as store:
        for seed in (1, 2, 3):
            store.commit(state(seed))
    return tmp_path / "s"


def changed(**fields: object) -> Lie:
    return lambda items: [(one, replace(place, **fields)) for one, place in items]


LIES: dict[str, Lie] = {
    "each other's places": lambda items: [
        (one, items[(number + 1) % len(items)][1]) for number, (one, _) in enumerate(items)
    ],
    "one place for all": lambda items: [(one, items[0][1]) for one, _ in items],
    "itself as a base": lambda items: [(one, replace(place, bases=(one,))) for one, place in items],
    "a circle": lambda items: [
        (one, replace(place, bases=(items[number - 1][0],))) for number, (one, place) in enumerate(items)
    ],
    "four bases": lambda items: [(one, replace(place, bases=(items[0][0],) * 4)) for one, place in items],
    "no base": changed(bases=()),
    "a base that is nowhere": changed(bases=(b"\xff" * 16,)),
    "another codec": changed(codec=1),
    "an unknown codec": changed(codec=255),
    "an unknown dtype": changed(dtype=255),
    "raw length 0": changed(raw_length=0),
    "raw length of 64 MiB": changed(raw_length=64 << 20),
    "raw length of 4 GiB": changed(raw_length=(1 << 32) - 1),
    "length of 4 GiB": changed(length=(1 << 32) - 1),
    "offset 0": changed(offset=0),
    "offset beyond the file": changed(offset=1 << 61),
    "offset beyond all files": changed(offset=(1 << 64) - 1),
    "another kind": changed(kind=3),
    "another pack": changed(pack=b"\x11" * 16),
    "another checksum": changed(checksum=0),
    "nothing": lambda items: [],
}


@pytest.mark.parametrize("name", LIES)
def test_an_index_that_lies_gives_an_error_or_the_right_data(path: Path, name: str) -> None:
    with castore.open(path) as store:
        index = store._repo.chunks.access.index
        items = list(index.items())
        lies = LIES[name](items)
        index.update(records=sorted(lies), gone_records=[one for one, _ in items] if not lies else [])
        for seed, rev in ((3, "main"), (2, "main~1"), (1, "main~2")):
            try:
                assert equal_states(store.load(rev), state(seed)), "wrong data"
            except CastoreError as error:
                assert "\n" not in str(error)
        assert store.fsck(repair=True).ok
        for seed, rev in ((3, "main"), (2, "main~1"), (1, "main~2")):
            assert equal_states(store.load(rev), state(seed))


def hostile(index: Path) -> None:
    """What would end the process that maps it: a root page far beyond the file, in a file that looks whole."""
    data = bytearray((index / "data.mdb").read_bytes())
    for start in (0, 4096):
        for at in range(start + 16 + 24, start + 16 + 120, 8):
            data[at : at + 8] = (0x7FFFFFFF).to_bytes(8, "little")
    (index / "data.mdb").write_bytes(data)


@pytest.mark.parametrize("how", ["copied", "another boot", "another directory"])
def test_the_index_of_a_store_from_elsewhere_is_never_mapped(path: Path, tmp_path: Path, how: str) -> None:
    there = tmp_path / "there"
    shutil.copytree(path, there)
    index = there / ".castore/index"
    if how == "another boot":
        found = (there / ".castore").stat()
        (index / "boot").write_text(f"00000000-0000-0000-0000-000000000000 {found.st_dev} {found.st_ino}\n")
    elif how == "another directory":
        boot, device, inode = (index / "boot").read_text().split()
        (index / "boot").write_text(f"{boot} {device} {int(inode) + 1}\n")
    hostile(index)
    with castore.open(there) as store:
        assert equal_states(store.load("main"), state(3))
        assert_sound(store)


@pytest.mark.parametrize(
    "garbage", [b"", b"x", b"\0" * 8192, os.urandom(32768)], ids=["empty", "short", "zeros", "chance"]
)
def test_garbage_under_the_mark_of_this_boot_is_made_anew(path: Path, garbage: bytes) -> None:
    (path / ".castore/index/data.mdb").write_bytes(garbage)
    with castore.open(path) as store:
        assert equal_states(store.load("main"), state(3))
        assert_sound(store)


def test_the_index_of_another_user_is_not_mapped_where_we_may_only_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    index = path / ".castore/index"
    for one in index.iterdir():
        os.chown(one, 54321, -1)
    hostile(index)
    with castore.open(path) as store:
        assert store._repo.chunks.access.index.directory != index.resolve()
        assert equal_states(store.load("main"), state(3))


def test_keys_and_values_of_other_sizes_are_an_index_that_is_damaged(path: Path) -> None:
    def stuff(store: Store, key: bytes, value: bytes) -> None:
        index: Index = store._repo.chunks.access.index
        opened = index._acquire()
        with opened.transaction(write=True) as txn:
            txn.put(key, value, db=opened.records)

    for key, value in ((b"x", b"y"), (b"\0" * 500, bytes(48)), (b"\xff" * 16, bytes(5000))):
        with castore.open(path) as store:
            stuff(store, key, value)
            assert equal_states(store.load("main"), state(3))
            assert store.fsck(repair=True).ok
            list(store._repo.chunks.commits_with_prefix("ab", 3))
