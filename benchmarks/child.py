"""Measuring a piece of work in a process of its own. Imports nothing heavy: what it imports is in the measurement."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import runpy
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a piece of work took.

    peak_bytes: resident memory at its highest. grown_bytes: the same, above what it was before the work.
    anonymous_bytes: the same without the pages of mapped files, which the kernel may drop; sampled every 2 ms.
    read_bytes: bytes read by system calls. disk_bytes: bytes that came from the disk, by mmap too.
    """

    seconds: float
    peak_bytes: int
    grown_bytes: int
    anonymous_bytes: int
    read_bytes: int
    disk_bytes: int


def measure(action: Callable[[], object]) -> Usage:
    """Run `action` and say what it took. Linux only."""
    # ru_maxrss survives exec and so includes the parent process; VmHWM is this process's, and can be reset.
    Path("/proc/self/clear_refs").write_text("5")
    before, anonymous_before, io_before = _status("VmRSS"), _status("RssAnon"), _io()
    with Highest(lambda: _status("RssAnon"), 0.002) as sampler:
        started = time.perf_counter()
        kept = action()
        seconds = time.perf_counter() - started
    peak, io_after = _status("VmHWM"), _io()
    del kept
    return Usage(
        seconds,
        peak,
        max(0, peak - before),
        max(0, sampler.highest - anonymous_before),
        io_after["rchar"] - io_before["rchar"],
        io_after["read_bytes"] - io_before["read_bytes"],
    )


class Highest:
    """The highest of what `read` says while it is entered, for what the kernel keeps no high-water mark of.

    period_s: between two samples, of which there are `samples`.
    """

    def __init__(self, read: Callable[[], int], period_s: float) -> None:
        self.highest = 0
        self.samples = 0
        self._read = read
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        self._sample()
        while not self._stop.wait(self._period_s):
            self._sample()

    def _sample(self) -> None:
        self.highest = max(self.highest, self._read())
        self.samples += 1


def in_child(function: Callable[..., T], *arguments: object) -> T:
    """function(*arguments) in a fresh interpreter."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def castore_command(*arguments: str) -> Usage:
    """A castore command run in this process, for `in_child`. RuntimeError if it fails."""

    def run() -> None:
        sys.argv = ["castore", *arguments]
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                runpy.run_module("castore", run_name="__main__", alter_sys=True)
        except SystemExit as exit_:
            if exit_.code not in (None, 0):
                raise RuntimeError(f"castore {' '.join(arguments)} failed: {output.getvalue()}") from exit_

    return measure(run)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this kernel doesn't report {field} in /proc/self/status")


def _io() -> dict[str, int]:
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(value) for name, value in (line.split(": ") for line in lines)}
