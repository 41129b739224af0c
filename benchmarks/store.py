"""The figures of the store, measured in one run and written as a table, as JSON and as plots."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import FEWER_ROUNDS, GROUPS, QUICK_ROUNDS, ROUNDS
from benchmarks.plots import plot
from benchmarks.results import Curve, Figure, Results, Series, machine_facts


def run(cache: Path, out: Path, only: Sequence[str], rounds: int | None, quick: bool) -> Results:
    """Run the groups named in `only` (all if empty) and write results.md, results.json and the plots into `out`.

    rounds: of every group, else each has its own.
    """
    machine = machine_facts()
    figures: list[Figure] = []
    series: list[Series] = []
    curves: list[Curve] = []
    # In the cache, so that the stores and the trajectories are on the same disk; /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache) as scratch:
        for name in only or GROUPS:
            usual = QUICK_ROUNDS if quick else FEWER_ROUNDS.get(name, ROUNDS)
            bench = Bench(cache, Path(scratch), rounds or usual, quick)
            started = time.perf_counter()
            print(f"{name} ...", file=sys.stderr, flush=True)
            for result in importlib.import_module(f"benchmarks.figures.{name}").run(bench):
                if isinstance(result, Figure):
                    figures.append(result)
                elif isinstance(result, Series):
                    series.append(result)
                else:
                    curves.append(result)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    if quick:
        machine["mode"] = "quick: toy sizes, to see that the benchmarks run; the figures mean nothing"
    results = Results(machine, tuple(figures), tuple(series), tuple(curves))
    results.write(out)
    plot(results, out)
    return results
