"""Whether memory grows with the number of commits: at rest, around the 10th and up to the 50th.

A process that trains holds now a little more and now a little less by itself, one percent of what it has: memory
that its allocator keeps free between steps. So it gives that back first (`malloc_trim`), and each number is the median
after five commits in a row.
"""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import in_child
from benchmarks.overhead.job import GIGABYTE, QUICK_SHAPE, Job
from benchmarks.overhead.methods import CASTORE, METHODS
from benchmarks.overhead.pss import tree_pss
from benchmarks.overhead.report import Table
from benchmarks.results import Figure
from benchmarks.states import tensor_bytes
from benchmarks.training.model import Shape

GROUP = "Memory over many commits"
LIMIT_PERCENT = 1.0
WINDOW = 5  # commits, up to one of those that are named


def run(bench: Bench) -> Iterator[Figure | Table]:
    shape = QUICK_SHAPE if bench.quick else GIGABYTE
    at = (6, 12, 18) if bench.quick else (10, 20, 30, 40, 50)
    rows = []
    for name in ("none", *CASTORE):
        with bench.folder(name) as folder:
            state, rest = in_child(memory_at_rest, name, folder, shape, at)
        growth = 100 * (rest[-1] / rest[0] - 1)
        rows.append((name, (*(pss / 1e6 for pss in rest), growth)))
        bench.say(f"{name}: {rest[0] / 1e6:.1f} to {rest[-1] / 1e6:.1f} MB")
        if name != "none":
            note = f"{(rest[-1] - rest[0]) / 1e6:+.2f} MB of {rest[0] / 1e6:.0f} MB, {state / 1e6:.0f} MB of it state"
            label = f"{name}: growth from commit {at[0]} to commit {at[-1]}"
            yield Figure(GROUP, label, growth, "%", LIMIT_PERCENT, note=note)
    columns = (*(f"after {number}, MB" for number in at), "growth, %")
    text = "PSS of the process and all that it started, when nothing is in flight and the training process has given "
    text += f"back what its allocator keeps free: median after {WINDOW} commits."
    yield Table(GROUP, text, columns, tuple(rows))


def memory_at_rest(name: str, folder: Path, shape: Shape, at: tuple[int, ...]) -> tuple[int, list[int]]:
    """Bytes of the state, and of all memory after the commits up to each of those numbered in `at`, from 1."""
    job = Job(shape, batch=1)
    method = METHODS[name](folder, job, every=1)
    malloc_trim = ctypes.CDLL(None).malloc_trim
    rest: dict[int, list[int]] = {number: [] for number in at}
    for number in range(1, at[-1] + 1):
        job.step(method.before_update)
        method.take(number)
        end = next(last for last in at if last >= number)
        if number > end - WINDOW:
            method.wait()
            gc.collect()
            malloc_trim(0)
            rest[end].append(tree_pss(os.getpid()))
    state = tensor_bytes(job.state())
    method.close()
    return state, [statistics.median_low(samples) for samples in rest.values()]
