"""Work in a child of fork: it begins at once, with all that is loaded and warm here, and may be killed or die."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_FAILED = 70  # EX_SOFTWARE, which nothing else here ends with


@dataclass(frozen=True, slots=True)
class Child:
    """A process at work. The bytes that it tells come as it tells them."""

    pid: int
    _told: int

    def hear(self, timeout_s: float) -> bytes | None:
        """The next byte that the child tells; b"" if it has ended, None if it says nothing for so long."""
        if not select.select([self._told], [], [], timeout_s)[0]:
            return None
        return os.read(self._told, 1)

    def kill(self) -> None:
        """SIGKILL. What it had told can still be heard."""
        os.kill(self.pid, signal.SIGKILL)


@contextlib.contextmanager
def forked(work: Callable[[Callable[[bytes], object]], None]) -> Iterator[Child]:
    """`work(tell)` in a process of its own, which is killed at the end of the body, at the latest.

    RuntimeError if the work failed by itself; what it says of that is on stderr.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            work(lambda told: os.write(writing, told))
        except BaseException:
            traceback.print_exc()
            os._exit(_FAILED)
        os._exit(0)
    os.close(writing)
    child = Child(pid, reading)
    try:
        yield child
    finally:
        child.kill()
        _, status = os.waitpid(pid, 0)
        os.close(reading)
        if os.waitstatus_to_exitcode(status) == _FAILED:
            raise RuntimeError("the work of a forked process failed")
