"""Wall time of a list of jobs on one or more threads, or in processes."""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.codecs.coder import Threading

Job = Callable[[], object]

_pools: dict[int, ThreadPoolExecutor] = {}  # threads that stay, with their scratch memory


def seconds_of(jobs: Sequence[Job], threads: int, threading: Threading) -> float:
    """Seconds for all of `jobs`. With threads of their own the jobs run one after the other."""
    if threads > 1 and threading == "processes":
        return _in_processes(jobs, threads)
    started = time.perf_counter()
    if threads > 1 and threading == "pool":
        _in_pool(jobs, threads)
    else:
        for job in jobs:
            job()
    return time.perf_counter() - started


def _in_pool(jobs: Sequence[Job], threads: int) -> None:
    pool = _pools.setdefault(threads, ThreadPoolExecutor(threads))
    position = itertools.count()  # each thread takes the next job: an executor's task for every chunk would cost more

    def work() -> None:
        while (i := next(position)) < len(jobs):
            jobs[i]()

    for future in [pool.submit(work) for _ in range(threads)]:
        future.result()


def _in_processes(jobs: Sequence[Job], processes: int) -> float:
    """Each process takes its share of the jobs; forked before the clock starts, so that memory is shared, not sent."""
    go_read, go_write = os.pipe()
    report_read, report_write = os.pipe()
    children = [_fork(jobs[i::processes], go_read, report_write) for i in range(processes)]
    for _ in children:
        os.read(report_read, 1)
    os.write(go_write, b"g" * processes)
    failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
    times = [] if failed else [struct.unpack("dd", os.read(report_read, 16)) for _ in children]
    seconds: float = max(end for _, end in times) - min(start for start, _ in times) if times else 0.0
    for descriptor in (go_read, go_write, report_read, report_write):
        os.close(descriptor)
    if failed:
        raise RuntimeError(f"{failed} of {processes} processes failed")
    return seconds


def _fork(jobs: Sequence[Job], go: int, report: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.write(report, b"r")
        os.read(go, 1)
        started = time.perf_counter()  # one clock for all processes of a machine
        for job in jobs:
            job()
        os.write(report, struct.pack("dd", started, time.perf_counter()))
        os._exit(0)
    finally:  # whatever happens, a child must not go on as the parent
        os._exit(1)
