"""Files that many threads write in whole blocks, through the page cache and past it."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castore import _fs
from castore.chunks import blocks
from castore.chunks.blocks import Blocks, Spare
from castore.errors import StorageError
from castore.limits import PAGE_BYTES
from castore.testing import faults

BLOCK = 4 * PAGE_BYTES


@pytest.fixture(scope="module", autouse=True)
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_BYTES", BLOCK)
        patch.setattr(blocks, "APART_BYTES", PAGE_BYTES)
        yield


def can_pass_cache(directory: Path) -> bool:
    """Whether the file system takes what is written past the page cache."""
    try:
        os.close(os.open(directory / "probe", os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600))
    except OSError:
        return False
    return True


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=12), st.booleans(), st.randoms(use_true_random=False))
def test_bytes_that_come_in_any_order_from_many_threads_make_the_file(
    lengths: list[int], direct: bool, random: Random
) -> None:
    data = os.urandom(sum(lengths))
    pieces = [(sum(lengths[:n]), length) for n, length in enumerate(lengths)]
    random.shuffle(pieces)
    with TemporaryDirectory() as directory:
        file = _fs.File.create(Path(directory) / "file")
        written = Blocks(file, direct, Spare())
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda piece: written.write_at(piece[0], data[piece[0] : sum(piece)]), pieces))
        written.finish()
        file.close()
        assert (Path(directory) / "file").read_bytes() == data


def pages(count: int) -> memoryview:
    """Random bytes that begin with a page, as what a loop's copies lie in does."""
    memory = mmap.mmap(-1, count * PAGE_BYTES)
    memory[:] = os.urandom(len(memory))
    return memoryview(memory)


@given(
    st.lists(st.integers(0, 3 * BLOCK) | st.integers(1, 9).map(pages), max_size=12),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_whole_pages_are_written_from_where_they_lie_among_others(
    parts: list[int | memoryview], direct: bool, random: Random
) -> None:
    expected, work = b"", []
    with TemporaryDirectory() as directory:
        file = _fs.File.create(Path(directory) / "file")
        written = Blocks(file, direct, Spare())
        for part in parts:
            at, data = len(expected), os.urandom(part) if isinstance(part, int) else part
            apart = written.takes_apart(data)
            assert apart == (data is part and direct and can_pass_cache(Path(directory)))
            if apart:
                work.append((written.write_apart, (at, b"head", data)))
                expected += bytes(written.place_apart(at) - at - 4) + b"head" + data
            else:
                work.append((written.write_at, (at, data)))
                expected += data
        random.shuffle(work)
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda one: one[0](*one[1]), work))
        written.finish()
        file.close()
        assert (Path(directory) / "file").read_bytes() == expected


def test_only_what_is_whole_pages_is_written_from_where_it_lies(tmp_path: Path) -> None:
    file = _fs.File.create(tmp_path / "file")
    written = Blocks(file, True, Spare())
    data = pages(3)
    assert written.takes_apart(data) == can_pass_cache(tmp_path)
    assert not written.takes_apart(data[1:])
    assert not written.takes_apart(data[:-1])
    assert not written.takes_apart(data[512 : 512 + 2 * PAGE_BYTES])
    assert not written.takes_apart(data[: PAGE_BYTES // 2])
    written.finish()
    file.close()


def test_whole_blocks_go_past_the_page_cache_and_the_rest_through_it(tmp_path: Path) -> None:
    file = _fs.File.create(tmp_path / "file")
    written = Blocks(file, True, Spare())
    ways: list[bool] = []
    with faults.record(lambda: ways.append(file.is_direct)) as recorded:
        written.write_at(0, bytes(2 * BLOCK + 10))
        written.finish()
    writes = [(way, one) for way, one in zip(ways, recorded.operations, strict=True) if one.name == "write"]
    assert [(one.offset, len(one.data)) for _, one in writes] == [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, 10)]
    assert [way for way, _ in writes] == [can_pass_cache(tmp_path)] * 2 + [False]
    assert recorded.operations[-1].name == "sync"
    file.close()


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EFAULT])
def test_what_cannot_go_past_the_page_cache_after_all_goes_through_it(tmp_path: Path, refusal: int) -> None:
    file = _fs.File.create(tmp_path / "file")
    file.pass_cache(True)
    assert file.is_direct == can_pass_cache(tmp_path)
    data = os.urandom(3 * BLOCK + 1)
    written = Blocks(file, True, Spare())
    with faults.inject("write", error=refusal) as fault:
        if can_pass_cache(tmp_path):
            written.write_at(0, data)
            written.finish()
            assert (tmp_path / "file").read_bytes() == data
        else:
            with pytest.raises(StorageError, match=os.strerror(refusal)):
                written.write_at(0, data)
    assert fault.struck
    file.close()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(("name", "error"), [("write", errno.ENOSPC), ("write", errno.EIO), ("sync", errno.EIO)])
def test_what_the_disk_refuses_is_raised(tmp_path: Path, direct: bool, name: str, error: int) -> None:
    file = _fs.File.create(tmp_path / "file")
    written = Blocks(file, direct, Spare())
    with faults.inject(name, error=error) as fault, pytest.raises(StorageError, match="cannot"):
        written.write_at(0, bytes(2 * BLOCK))
        written.finish()
    assert fault.struck
    written.end_flush()
    file.close()


@pytest.mark.parametrize("direct", [False, True])
def test_nobody_waits_for_room_after_an_error_that_is_none_of_the_disk(tmp_path: Path, direct: bool) -> None:
    """Such as that of a file that is gone, which the errors of the disk let pass."""
    file = _fs.File.create(tmp_path / "file")
    written = Blocks(file, direct, Spare())
    with faults.inject("write", error=errno.ENOENT) as fault, pytest.raises(FileNotFoundError):
        written.write_at(0, bytes(3 * (blocks.BEHIND_BLOCKS + 2) * BLOCK))
        written.finish()
    assert fault.struck
    written.end_flush()
    file.close()


def test_a_flush_that_failed_beside_the_writing_is_raised_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "FLUSH_BYTES", BLOCK)
    file = _fs.File.create(tmp_path / "file")
    written = Blocks(file, False, Spare())
    with faults.inject("sync") as fault:
        written.write_at(0, bytes(BLOCK))
        written.end_flush()
        assert fault.struck
        with pytest.raises(StorageError, match="sync"):
            written.finish()
        assert [one.name for one in fault.operations] == ["write", "sync"]  # a sync that failed is never retried
    file.close()


def test_files_that_are_written_one_after_another_use_the_same_memory(tmp_path: Path) -> None:
    """Of the block that is filled, of those that wait for the disk, and of that which it takes."""
    spare = Spare()
    for number in range(5):
        file = _fs.File.create(tmp_path / f"file {number}")
        written = Blocks(file, True, spare)
        written.write_at(0, bytes([number]) * (70 * BLOCK + 100))
        written.finish()
        file.close()
        assert 1 <= len(spare) <= 1 + blocks.BEHIND_BLOCKS + 1
    for number in range(5):
        assert (tmp_path / f"file {number}").read_bytes() == bytes([number]) * (70 * BLOCK + 100)
