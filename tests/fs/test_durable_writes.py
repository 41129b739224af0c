"""The primitives that everything durable is made of."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

import pytest

from castore import _fs
from castore.errors import LockTimeoutError, RefConflictError, StorageError
from castore.testing import faults


def names(recorder: faults.Recorder) -> list[str]:
    return [operation.name for operation in recorder.operations]


def test_replace_syncs_the_file_before_and_the_directory_after_its_rename(tmp_path: Path) -> None:
    with faults.record() as recorded:
        _fs.replace(tmp_path / "ref", b"new")
    assert names(recorded) == ["create", "write", "sync", "rename", "sync_dir"]
    assert (tmp_path / "ref").read_bytes() == b"new"


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_replace_leaves_the_old_or_the_new_and_nothing_beside(tmp_path: Path, nth: int) -> None:
    path = tmp_path / "ref"
    path.write_bytes(b"old")
    with faults.inject(nth=nth, error=errno.ENOSPC), pytest.raises(StorageError, match="the disk is full"):
        _fs.replace(path, b"new")
    assert path.read_bytes() == (b"new" if nth == 5 else b"old")
    assert [entry.name for entry in tmp_path.iterdir()] == ["ref"]


def test_append_is_one_write_and_syncs_a_new_files_directory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with faults.record() as recorded:
        _fs.append(log, b"one\n")
        _fs.append(log, b"two\n")
    assert names(recorded) == ["create", "append", "sync", "sync_dir", "append", "sync"]
    with faults.inject("short_write"), pytest.raises(StorageError, match="only a part"):
        _fs.append(log, b"three\n")
    assert log.read_bytes() == b"one\ntwo\nthr"


def test_a_failed_sync_is_not_tried_again(tmp_path: Path) -> None:
    file = _fs.File.create(tmp_path / "file")
    file.write_at(0, b"data")
    with faults.inject("sync") as fault, pytest.raises(StorageError, match="sync"):
        file.sync()
    assert names(fault) == ["sync"]
    file.close()


def test_short_writes_are_continued_where_they_stopped(tmp_path: Path) -> None:
    file = _fs.File.create(tmp_path / "file")
    for nth in (1, 2):
        with faults.inject("short_write", nth) as fault:
            file.write_at(3, bytes(range(250)))
            file.write_at(253, b"end")
        assert fault.struck
        assert (tmp_path / "file").read_bytes() == bytes(3) + bytes(range(250)) + b"end"
    file.close()


def test_a_directory_is_synced_into_its_parent_also_when_a_crash_came_before_that(tmp_path: Path) -> None:
    with faults.inject("sync_dir"), pytest.raises(StorageError):
        _fs.make_dir(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    with faults.record() as recorded:
        _fs.make_dirs(tmp_path / "a" / "b", tmp_path)
    synced = [operation.path for operation in recorded.operations if operation.name == "sync_dir"]
    assert synced == [tmp_path, tmp_path / "a"]
    (tmp_path / "a" / "b" / "file").write_bytes(b"")
    with faults.record() as recorded:
        _fs.make_dirs(tmp_path / "a" / "b", tmp_path)
    assert names(recorded) == []


def test_only_one_fault_is_injected_at_a_time(tmp_path: Path) -> None:
    with faults.record(), pytest.raises(RuntimeError), faults.record():
        pass
    _fs.replace(tmp_path / "ref", b"and afterwards all is as before")


def test_a_writer_whose_new_file_was_taken_for_abandoned_notices(tmp_path: Path) -> None:
    file = _fs.File.create(tmp_path / "pack")
    assert _fs.remove_abandoned(tmp_path / "pack")
    assert not file.lock()
    file.close()
    held = _fs.File.create(tmp_path / "pack")
    assert held.lock()
    assert not _fs.remove_abandoned(tmp_path / "pack")
    held.close()
    assert _fs.remove_abandoned(tmp_path / "pack")
    assert not _fs.remove_abandoned(tmp_path / "pack")


def test_the_lock_is_one_between_threads_and_between_objects(tmp_path: Path) -> None:
    count = 0
    locks = [_fs.Lock(tmp_path / "lock", 60.0) for _ in range(2)]

    def work(lock: _fs.Lock) -> None:
        nonlocal count
        for _ in range(100):
            with lock.held(), lock.held():  # a thread that holds it may take it again
                before = count
                count = before + 1

    threads = [threading.Thread(target=work, args=(locks[number % 2],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count == 400


def test_who_waits_too_long_for_the_lock_is_told(tmp_path: Path) -> None:
    with _fs.Lock(tmp_path / "lock", 1.0).held():
        impatient = _fs.Lock(tmp_path / "lock", 0.0)
        for _ in range(2):
            with pytest.raises(LockTimeoutError, match="another process"), impatient.held():
                pass
    with impatient.held():
        pass


def test_the_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    lock = _fs.Lock(tmp_path / "lock", 0.0)
    with pytest.raises(ZeroDivisionError), lock.held(), lock.held():
        raise ZeroDivisionError
    with _fs.Lock(tmp_path / "lock", 0.0).held():
        pass


def test_who_takes_the_lock_after_its_holder_failed_recovers_first(tmp_path: Path) -> None:
    recovered: list[int] = []
    lock = _fs.Lock(tmp_path / "lock", 0.0, lambda: recovered.append((tmp_path / "lock").stat().st_size))

    def hold(error: Exception | None = None) -> None:
        with contextlib.suppress(Exception), lock.held():
            if error is not None:
                raise error

    hold()
    hold(RefConflictError("another was faster"))  # decided before anything was changed
    hold()
    assert recovered == []
    hold(StorageError("the disk is full"))
    hold()
    hold(RuntimeError("in the midst of it"))
    hold()
    hold()
    assert recovered == [1, 1]


def test_who_takes_the_lock_after_its_holder_died_recovers_first(tmp_path: Path) -> None:
    recovered: list[str] = []
    lock = _fs.Lock(tmp_path / "lock", 5.0, lambda: recovered.append("here"))
    child = os.fork()
    if child == 0:
        with lock.held():
            os._exit(9)
    os.waitpid(child, 0)
    for _ in range(2):
        with lock.held():
            assert recovered == ["here"]


def test_a_recovery_that_fails_is_made_by_the_next_holder(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\0")
    lock = _fs.Lock(tmp_path / "lock", 0.0, lambda: _fs.sync_dirs(tmp_path, ()))
    with faults.inject("sync_dir"), pytest.raises(StorageError), lock.held():
        raise AssertionError("the lock is not to be had")
    with faults.record() as recorded, lock.held():
        pass
    assert names(recorded) == ["sync_dir", "resize", "resize"]


def test_all_directories_are_synced_but_those_left_out(tmp_path: Path) -> None:
    for name in ("a/b", "c/a", "out/d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "out")
    with faults.record() as recorded:
        _fs.sync_dirs(tmp_path, ("out",))
    synced = {operation.path.relative_to(tmp_path).as_posix() for operation in recorded.operations}
    assert synced == {".", "a", "a/b", "c", "c/a"}
