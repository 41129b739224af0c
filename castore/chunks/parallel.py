"""A pool of threads over chunks, with a bound on what is in flight."""

from __future__ import annotations

import collections
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def threads() -> int:
    """How many threads encode and decode: one for each processor, at most 16."""
    return max(1, min(processors(), 16))


class Pool:
    """Threads that outlive one operation, so that their scratch buffers stay warm; made anew after a fork."""

    def __init__(self) -> None:
        self.size = threads()
        self.nice = 0  # how far the threads of what begins now step back behind their process
        self._executors: dict[int, ThreadPoolExecutor] = {}  # by `nice`: a thread that stepped back cannot return
        self._pid = 0

    def _running(self) -> ThreadPoolExecutor:
        if self._pid != os.getpid():
            self._executors, self._pid = {}, os.getpid()
        if self.nice not in self._executors:
            from concurrent.futures import ThreadPoolExecutor  # 10 ms that reading history has no use for

            self._executors[self.nice] = ThreadPoolExecutor(self.size, "castore", _step_back, (self.nice,))
        return self._executors[self.nice]

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work` of each item, in order. At most a few items a thread are taken ahead; the first error ends it all."""
        executor = self._running()
        pending: collections.deque[Future[Result]] = collections.deque()
        try:
            for item in items:
                pending.append(executor.submit(work, item))
                if len(pending) > 2 * self.size:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            for future in pending:
                if not future.cancelled():
                    future.exception()  # wait: no thread may still touch what the caller is about to free

    def close(self) -> None:
        if self._pid == os.getpid():
            for executor in self._executors.values():
                executor.shutdown()
        self._executors = {}


def _step_back(nice: int) -> None:
    """Make this thread alone nicer; only Linux has priorities for threads (setpriority(2), "C library/kernel
    differences")."""
    if nice and sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
