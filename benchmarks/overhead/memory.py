"""Memory that each method takes at its peak, above the run without checkpoints."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.child import Highest, in_child
from benchmarks.overhead.job import GIGABYTE, QUICK_SHAPE, Size
from benchmarks.overhead.loop import Measured, measure_run
from benchmarks.overhead.methods import METHODS
from benchmarks.overhead.pss import PERIOD_S, tree_pss
from benchmarks.overhead.report import Table
from benchmarks.results import Figure

GROUP = "Memory at the peak"
LIMITS = {"castore": 2.1, "castore-full": 2.1, "castore-thread": 2.1, "castore-disk": 1.1}


def run(bench: Bench) -> Iterator[Figure | Table]:
    size = Size(QUICK_SHAPE, 4, every=2, commits=2) if bench.quick else Size(GIGABYTE, 1, every=2, commits=3)
    found: dict[str, list[int]] = {name: [] for name in METHODS}
    state = 0
    for turn in range(bench.rounds):
        for name in METHODS:
            measured, peak, samples = _peak(bench, name, size)
            state = measured.state_bytes
            found[name].append(peak)
            bench.say(f"round {turn + 1}, {name}: {peak / 1e6:,.0f} MB, {samples} samples")
    peaks = {name: statistics.median(ones) for name, ones in found.items()}
    extra = {name: peak - peaks["none"] for name, peak in peaks.items()}
    for name, limit in LIMITS.items():
        note = f"{extra[name] / 1e6:,.0f} MB for a state of {state / 1e6:,.0f} MB"
        yield Figure(GROUP, f"{name}: extra memory / state", extra[name] / state, "x", limit, note=note)
    head = f"PSS of the process and all that it started, sampled every {PERIOD_S * 1e3:.0f} ms; pages that two of them "
    head += (
        f"share count once; median of {bench.rounds}. extra: above the median peak of `none`, whose runs differ too."
    )
    rows = tuple(
        (name, (peaks[name] / 1e6, min(ones) / 1e6, max(ones) / 1e6, extra[name] / 1e6, extra[name] / state))
        for name, ones in found.items()
    )
    yield Table(GROUP, head, ("peak, MB", "least", "most", "extra, MB", "extra / state"), rows)


def _peak(bench: Bench, name: str, size: Size) -> tuple[Measured, int, int]:
    with bench.folder(name) as folder, Highest(_below, PERIOD_S) as below:
        measured = in_child(measure_run, name, folder, dataclasses.replace(size, yardsticks=0), True)
    return measured, below.highest, below.samples


def _below() -> int:
    """A process that was just forked has its parent's memory until it runs its program, and would count all of that
    once more: such a moment is over at the second look."""
    return min(tree_pss(os.getpid(), with_root=False) for _ in range(2))
