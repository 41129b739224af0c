"""A shared store belongs to a group: whatever is made in it, by whom and when, has the modes that its members need."""

from __future__ import annotations

import grp
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

import castore
from castore.errors import StoreExistsError, UsageError
from castore.store import Store
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_loads, packs, state

NOBODY = 65534
GROUP = 54321  # of nobody's: only the one who runs the tests as root can be in it


@pytest.fixture(params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def another_group() -> int:
    """A group of this user's that is not its first one, if there is any; of root, one that there is not."""
    others = [one for one in os.getgroups() if one != os.getegid()]
    return GROUP if os.geteuid() == 0 else next(iter(others), os.getegid())


def entries(store: Path) -> list[Path]:
    return [store, *store.rglob("*")]


def assert_shared(store: Path, group: int) -> None:
    for entry in entries(store):
        found = entry.stat()
        assert found.st_gid == group, entry
        wanted = 0o2770 if stat.S_ISDIR(found.st_mode) else 0o660
        assert stat.S_IMODE(found.st_mode) == wanted, f"{entry} has {found.st_mode:o}"


def use(store: Store) -> None:
    """Make each kind of file that a store has."""
    store.commit(state(1))
    store.commit(state(2))
    store.commit(state(3), branch="a/b")
    store.tag("v/1")
    store.pin("main")
    store.prune({"keep_last": 1})
    store.delete_branch("a/b", force=True)
    store.expire_reflog(None, datetime.now(timezone.utc))
    store.gc()


def test_all_that_is_made_in_a_shared_store_is_the_groups(tmp_path: Path, umask: int) -> None:
    group = another_group()
    with castore.store.init(tmp_path / "new" / "runs", shared=str(group)) as store:
        assert_shared(store.path, group)
        use(store)
        assert_shared(store.path, group)
        (newest, *_) = packs(store)
        data = bytearray(newest.read_bytes())
        data[-20] ^= 1
        newest.write_bytes(data)
    shutil.rmtree(store.path / "index")
    with castore.open(store.path) as again:
        assert again.fsck(repair=True).repaired
    names = {entry.name for entry in entries(store.path)}
    assert {"quarantine", "index", "data.mdb", "lock.mdb", "boot", "audit", "pins", "castore.toml", "lock"} <= names
    assert_shared(store.path, group)
    assert_shared(tmp_path / "new", group)


def test_a_store_that_is_not_shared_is_private_wherever_it_lies(tmp_path: Path, umask: int) -> None:
    project = tmp_path / "project"
    project.mkdir()
    os.chown(project, -1, another_group())
    project.chmod(0o2770)
    with castore.store.init(project / "runs") as store:
        use(store)
    for entry in entries(project / "runs"):
        assert entry.stat().st_mode & 0o077 == 0, entry


def test_a_group_has_a_name_or_a_number(tmp_path: Path) -> None:
    name = grp.getgrgid(os.getegid()).gr_name
    castore.store.init(tmp_path / "a", shared=name).close()
    assert (tmp_path / "a" / ".castore").stat().st_gid == os.getegid()


def test_a_group_that_is_none_is_named_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no group 'no-such-group'"):
        castore.store.init(tmp_path / "a", shared="no-such-group")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_does_not_become_shared(tmp_path: Path) -> None:
    castore.store.init(tmp_path).close()
    with pytest.raises(StoreExistsError):
        castore.store.init(tmp_path, shared=str(another_group()))
    assert (tmp_path / ".castore").stat().st_mode & 0o077 == 0


def test_another_user_of_the_group_can_do_everything(tmp_path: Path) -> None:
    """Only root can become another user; run by anyone else, this checks the modes alone."""
    place = Path(tempfile.mkdtemp(prefix="castore-shared-"))  # pytest's own directories are closed to other users
    try:
        place.chmod(0o755)
        group = another_group()
        with castore.store.init(place, shared=str(group)) as store:
            history = {store.commit(state(1)).id: 1}
        if os.geteuid() == 0:
            finish([start(workers.work_as_another_user, store.path, tmp_path, NOBODY, group, 10)])
            owners = {entry.stat().st_uid for entry in entries(store.path)}
            assert owners == {0, NOBODY}
        with castore.open(store.path) as again:
            history = {again.resolve("main"): 10} if os.geteuid() == 0 else history
            assert_loads(again, history)
            again.commit(state(2))
            again.gc()
        assert_shared(store.path, group)
    finally:
        shutil.rmtree(place)
