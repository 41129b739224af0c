"""Stores that may be read and not written: each state loads, each change is refused in a line, and nothing changes."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import castore
from castore.errors import CastoreError, StorageError
from castore.store import Store
from castore.testing.states import equal_states
from tests.mounts import mount_read_only, own_mounts
from tests.processes import answer
from tests.samples import state

NOBODY = 65534
DENIED = "permission denied; the store belongs to another user or is read-only"
READ_ONLY = "the file system is read-only"
EXPECTED = "as it should be"
CHANGES: dict[str, Callable[[Store], object]] = {
    "commit": lambda store: store.commit(state(3)),
    "gc": lambda store: store.gc(),
    "repack": lambda store: store.repack(),
    "branch": lambda store: store.branch("other"),
    "delete branch": lambda store: store.delete_branch("rest", force=True),
    "tag": lambda store: store.tag("v1"),
    "prune": lambda store: store.prune({"keep_last": 1}),
    "pin": lambda store: store.pin("main"),
    "switch": lambda store: store.switch("rest"),
}


@pytest.fixture
def path(memory: Path) -> Path:
    """A store with some history, that nobody may write to."""
    memory.chmod(0o755)
    with castore.open(memory, create=True) as store:
        for seed in (1, 2):
            store.commit(state(seed))
        store.commit(state(9), branch="rest")
    return memory / ".castore"


def forbid(path: Path, bits: int) -> None:
    """Take bits off the modes of all that is in a store, and off its own."""
    for one in (*path.rglob("*"), path):
        one.chmod(stat.S_IMODE(one.stat().st_mode) & ~bits | (0o055 if one.is_dir() else 0o044) & ~bits)


def become_another_user() -> None:
    """Let this process not be root, which no permission binds."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def content(path: Path) -> dict[str, bytes]:
    return {str(one): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def work_on(path: Path, change: str) -> str:
    """Read all that is in the store of `path`, and what a change that is tried says then."""
    with castore.open(path) as store:
        assert [commit.id for commit in store.log("main")]
        assert equal_states(store.load("main"), state(2)) and equal_states(store.load("main~1"), state(1))
        assert store.fsck().ok
        with pytest.raises(StorageError) as caught:
            CHANGES[change](store)
        assert equal_states(store.load("main"), state(2))
        return str(caught.value)


@pytest.mark.parametrize("index", ["trusted", "lost"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_store_without_write_permission_can_be_read_and_refuses(path: Path, change: str, index: str) -> None:
    if index == "lost":
        shutil.rmtree(path / "index")
    forbid(path, 0o222)
    before = content(path)

    def work() -> str:
        become_another_user()
        return work_on(path, change)

    said = answer(work)
    assert DENIED in said and "\n" not in said
    assert content(path) == before


@pytest.mark.parametrize("index", ["trusted", "lost"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_store_on_a_disk_that_is_mounted_read_only_can_be_read_and_refuses(
    path: Path, change: str, index: str
) -> None:
    if index == "lost":
        shutil.rmtree(path / "index")
    before = content(path)

    def work() -> str:
        if own_mounts():
            mount_read_only(path)
            return work_on(path, change).replace(READ_ONLY, EXPECTED)
        forbid(path, 0o222)  # as near to it as a process comes that may not mount
        become_another_user()
        return work_on(path, change).replace(DENIED, EXPECTED)

    said = answer(work)
    assert EXPECTED in said and "\n" not in said
    assert content(path) == before


def test_a_store_that_another_user_keeps_to_himself_is_refused_in_one_line(path: Path) -> None:
    path.chmod(0)

    def work() -> str:
        become_another_user()
        try:
            with castore.open(path.parent):
                return "opened"
        except CastoreError as error:
            return str(error)

    said = answer(work)
    path.chmod(0o700)
    assert "permission denied" in said and "\n" not in said
