"""A file that many threads write in whole blocks: each byte once, each block when it is full.

A record goes into a block's memory, and the disk gets blocks: it takes long writes faster, and past the page cache it
takes nothing else.
"""

from __future__ import annotations

import mmap
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from castore.errors import StorageError
from castore.limits import MIB

if TYPE_CHECKING:
    import numpy.typing as npt

    from castore import _fs
    from castore.codecs.base import Buffer

BLOCK_BYTES = 4 * MIB  # a multiple of what any disk asks for
FLUSH_BYTES = 8 * MIB


def _memory() -> npt.NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(-1, BLOCK_BYTES), np.uint8)  # whole pages


@dataclass(slots=True)
class _Block:
    memory: npt.NDArray[np.uint8] = field(default_factory=_memory)
    filled: int = 0


class Spare:
    """Blocks that are free: those who write one file after another use the same ones, a few for each thread in all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[_Block] = []

    def __len__(self) -> int:
        return len(self._blocks)

    def take(self) -> _Block:
        with self._lock:
            return self._blocks.pop() if self._blocks else _Block()

    def give(self, block: _Block) -> None:
        block.filled = 0
        with self._lock:
            self._blocks.append(block)


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
        self._blocks: dict[int, _Block] = {}  # those that are not full
        self._spare = spare
        self._unsynced = 0
        self._flusher: threading.Thread | None = None
        self._failure: StorageError | None = None
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

    def _fill(self, number: int, start: int, source: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                block = self._blocks[number] = self._spare.take()
        np.copyto(block.memory[start : start + len(source)], source)  # without the interpreter's lock
        with self._lock:
            block.filled += len(source)
            if block.filled < BLOCK_BYTES:
                return
        with self._turn:
            self._file.write_at(number * BLOCK_BYTES, block.memory.data)
        with self._lock:
            del self._blocks[number]
            self._unsynced += BLOCK_BYTES
        self._spare.give(block)
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
            number, block = self._blocks.popitem()
            self._file.write_at(number * BLOCK_BYTES, block.memory[: block.filled].data)
            self._spare.give(block)
        self._file.sync()

    def end_flush(self) -> None:
        """Wait until nobody but the caller uses the file."""
        if self._flusher is not None:
            self._flusher.join()
