"""A file that many threads write in whole blocks: each byte once, each block when it is full.

A record goes into a block's memory, and the disk gets blocks: it takes long writes faster, and past the page cache it
takes nothing else. What lies in whole pages of its own already goes there as it is, past the block too.
"""

from __future__ import annotations

import mmap
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from castore.errors import StorageError
from castore.limits import KIB, MIB, PAGE_BYTES

if TYPE_CHECKING:
    import numpy.typing as npt

    from castore import _fs
    from castore.codecs.base import Buffer

BLOCK_BYTES = 4 * MIB
APART_BYTES = 128 * KIB  # from here on a write of its own costs less than a copy
FLUSH_BYTES = 8 * MIB
BEHIND_BLOCKS = 3  # that are full and wait for the disk


def _pages(size: int) -> npt.NDArray[np.uint8]:
    """Memory of this process alone: a shared mapping, Python's default, takes 1.4 times as long to fault in."""
    return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)


@dataclass(slots=True)
class _Block:
    """filled: bytes that are in `memory`, or on their way past it: `apart`, from page to page, within the block."""

    memory: npt.NDArray[np.uint8] | None = None
    filled: int = 0
    apart: list[tuple[int, int]] = field(default_factory=list)

    def runs(self) -> Iterator[tuple[int, int]]:
        """The stretches that are only in memory, up to the last byte that is filled."""
        start = 0
        for first, last in sorted(self.apart):
            if start < first:
                yield start, first
            start = last
        if start < self.filled:
            yield start, self.filled


class Spare:
    """Memory of blocks that are written: whoever writes one file after another uses the same, a few for each thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory: list[npt.NDArray[np.uint8]] = []

    def __len__(self) -> int:
        return len(self._memory)

    def take(self) -> npt.NDArray[np.uint8]:
        with self._lock:
            return self._memory.pop() if self._memory else _pages(BLOCK_BYTES)

    def give(self, memory: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            self._memory.append(memory)


class Blocks:
    """Writes a file from its start, without gaps. Bytes may come in any order, from many threads.

    What does not fill a block stays in memory until the end.
    """

    def __init__(self, file: _fs.File, direct: bool, spare: Spare) -> None:
        """direct: past the page cache, where the file system can: nobody is going to read the file soon.

        That spares the processor a third of what storing bytes as they are costs, and leaves in memory what else lies
        there; see FastPersist (https://arxiv.org/abs/2406.13768). spare: where memory comes from, and goes when it
        is written.
        """
        self._file = file
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # a file takes one write at a time, and who waits in the kernel spins
        self._page = _pages(PAGE_BYTES).data  # for a head; whose turn it is
        self._blocks: dict[int, _Block] = {}  # those in which something is missing
        self._spare = spare
        self._unsynced = 0
        self._flusher: threading.Thread | None = None
        self._full: queue.Queue[tuple[int, _Block] | None] = queue.Queue(BEHIND_BLOCKS)
        self._behind: threading.Thread | None = None
        self._failure: Exception | None = None
        if direct:
            file.pass_cache(True)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Put bytes at an offset. Raises StorageError."""
        view = memoryview(data).cast("B")
        while view:
            number, start = divmod(offset, BLOCK_BYTES)
            count = min(len(view), BLOCK_BYTES - start)
            self._fill(number, start, np.frombuffer(view[:count], np.uint8))
            view = view[count:]
            offset += count

    def takes_apart(self, data: Buffer) -> bool:
        """Whether `write_apart` spares copying these bytes: they are whole pages, and enough."""
        if len(data) < APART_BYTES or len(data) % PAGE_BYTES or not self._file.is_direct:
            return False
        address: int = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        return address % PAGE_BYTES == 0

    @staticmethod
    def place_apart(offset: int) -> int:
        """Where bytes that are written apart begin, if what is before them in the file ends at `offset`."""
        return (-(-offset // PAGE_BYTES) + 1) * PAGE_BYTES

    def write_apart(self, offset: int, head: bytes, data: Buffer) -> None:
        """Put whole pages of bytes to where `place_apart` says, from their own memory, and `head` right before them;
        from `offset` to there are zeros. Raises StorageError."""
        start = self.place_apart(offset)
        first, end = start - PAGE_BYTES, start + len(data)
        self.write_at(offset, bytes(first - offset))
        with self._turn:
            self._page[:] = bytes(PAGE_BYTES - len(head)) + head
            self._file.write_at(first, self._page, data)
        while first < end:
            number, within = divmod(first, BLOCK_BYTES)
            count = min(end - first, BLOCK_BYTES - within)
            with self._lock:
                block = self._blocks.setdefault(number, _Block())
                block.apart.append((within, within + count))
            self._filled(number, block, count)
            first += count
        self._wrote(len(data))

    def _fill(self, number: int, start: int, source: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            block = self._blocks.setdefault(number, _Block())
            if block.memory is None:
                block.memory = self._spare.take()
        np.copyto(block.memory[start : start + len(source)], source)  # without the interpreter's lock
        self._filled(number, block, len(source))

    def _filled(self, number: int, block: _Block, count: int) -> None:
        """Write a block once nothing is missing in it; past the page cache, where that takes as long as the disk does,
        behind the caller's back."""
        with self._lock:
            block.filled += count
            if block.filled < BLOCK_BYTES:
                return
            del self._blocks[number]
            if self._failure is not None:
                raise self._failure
            behind = self._file.is_direct
            if behind and self._behind is None:
                self._behind = threading.Thread(target=self._write_behind, name="castore-write")
                self._behind.start()
        if behind:
            self._full.put((number, block))
            return
        with self._turn:
            self._write(number, block)
        self._wrote(BLOCK_BYTES - sum(end - first for first, end in block.apart))

    def _write_behind(self) -> None:
        while (full := self._full.get()) is not None:
            if self._failure is not None:
                continue  # nobody may wait for room
            try:
                with self._turn:
                    self._write(*full)
            except Exception as error:  # whatever it is: who waits for room would wait for ever
                self._failure = error  # whoever fills the next block raises it, or `finish`

    def _write(self, number: int, block: _Block) -> None:
        """Write what is only in a block's memory, which is free then."""
        if block.memory is not None:
            for first, end in block.runs():
                self._file.write_at(number * BLOCK_BYTES + first, block.memory[first:end].data)
            self._spare.give(block.memory)

    def _wrote(self, size: int) -> None:
        with self._lock:
            self._unsynced += size
        if not self._file.is_direct:
            self._flush_beside()

    def _flush_beside(self) -> None:
        """Every few MiB: let the disk take what is written while the next chunks are encoded."""
        with self._lock:
            busy = self._flusher is not None and self._flusher.is_alive()
            if busy or self._failure is not None or self._unsynced < FLUSH_BYTES:
                return
            self._unsynced = 0
            self._flusher = threading.Thread(target=self._flush, name="castore-flush")
            self._flusher.start()

    def _flush(self) -> None:
        try:
            self._file.sync_data()
        except StorageError as error:
            self._failure = error  # a failed sync is never retried: `finish` raises it

    def finish(self) -> None:
        """Write what is left and put the file on stable storage. No thread may still be writing.

        Raises StorageError, also for what failed before.
        """
        self.end_flush()
        if self._failure is not None:
            raise self._failure
        self._file.pass_cache(False)  # past which whole pages go alone
        while self._blocks:
            self._write(*self._blocks.popitem())
        self._file.sync()

    def end_flush(self) -> None:
        """Wait until nobody but the caller uses the file."""
        if self._behind is not None:
            self._full.put(None)
            self._behind.join()
            self._behind = None
        if self._flusher is not None:
            self._flusher.join()
