"""Threads that copy memory beside the one that says what: the copy of a state is bound by memory, not by Python.

One thread does not reach the memory's speed. torch's copies use all threads for one tensor after the other, with a
start and an end for each; here each thread takes the next piece of any tensor, and the caller goes on looking through
the state meanwhile, without holding them up: `memmove` runs without the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
from queue import Empty, SimpleQueue
from typing import NamedTuple

import torch

from castore.chunks.parallel import processors

PIECE_BYTES = 4 << 20
_MOST_THREADS = 8  # beyond which memory is what is waited for


class _Piece(NamedTuple):
    """keep: what owns the source's memory, which must live as long as the piece waits."""

    target: int
    source: int
    nbytes: int
    keep: torch.Tensor


class Crew:
    """Copies between addresses. What is begun must be finished before the target is used or given back."""

    def __init__(self) -> None:
        self._pid = 0
        self._threads: list[threading.Thread] = []
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._queue: SimpleQueue[_Piece | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._left = 0
        self._idle = threading.Event()
        self._idle.set()

    def begin(self, target: int, source: int, nbytes: int, keep: torch.Tensor) -> None:
        """Copy bytes to an address, soon. keep: what owns the source, which must not change until it is finished."""
        if self._pid != os.getpid():
            self._start()
        for first in range(0, nbytes, PIECE_BYTES):
            with self._lock:
                self._left += 1
                self._idle.clear()
            self._queue.put(_Piece(target + first, source + first, min(PIECE_BYTES, nbytes - first), keep))

    def finish(self) -> None:
        """Help, and return when all that was begun is copied. From any thread."""
        while self._pid == os.getpid() and not self._idle.is_set():
            try:
                piece = self._queue.get_nowait()
            except Empty:
                self._idle.wait()
            else:
                assert piece is not None  # None comes after the last piece, see `close`
                self._copy(piece)

    def close(self) -> None:
        """Finish, and end the threads."""
        self.finish()
        if self._pid == os.getpid():
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join()
        self._threads.clear()
        self._pid = 0

    def _start(self) -> None:
        """Start the threads, again after a fork, which leaves them behind: so many as torch computes with, and two at
        least where there are two processors, since launchers set one thread a rank by default."""
        if self._pid:
            self._begin_anew()
        self._pid = os.getpid()
        count = min(max(torch.get_num_threads(), 2), processors(), _MOST_THREADS) - 1  # the caller is one of them
        self._threads = [
            threading.Thread(target=self._work, name=f"castore-copy-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (piece := self._queue.get()) is not None:
            self._copy(piece)

    def _copy(self, piece: _Piece) -> None:
        ctypes.memmove(piece.target, piece.source, piece.nbytes)
        with self._lock:
            self._left -= 1
            if not self._left:
                self._idle.set()
