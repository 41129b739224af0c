"""One run of the training benchmark, from nothing to its report."""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.overhead import GROUPS, ON_DEVICE, QUICK_ROUNDS, ROUNDS
from benchmarks.overhead.methods import METHODS
from benchmarks.overhead.plot import plot
from benchmarks.overhead.report import Report, Sample, Table
from benchmarks.results import Figure, Series, machine_facts


def run(cache: Path, out: Path, only: Sequence[str], rounds: int | None, quick: bool, device: str) -> Report:
    """Run the groups named in `only` (all if empty) and write training.md, training.json and training.png into `out`.

    rounds: runs of each method, in turn. device: "cpu" or "cuda", where the state is.
    """
    machine = machine_facts()
    if device != "cpu":
        import torch  # not above: whoever measures memory must not get it by this

        machine["device"] = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    if quick:
        machine["mode"] = "quick: toy sizes, to see that the benchmarks run; the figures mean nothing"
    results: list[Figure | Table | Sample | Series] = []
    # In the cache, since /tmp may be memory.
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache) as scratch:
        bench = Bench(cache, Path(scratch), rounds or (QUICK_ROUNDS if quick else ROUNDS), quick, device)
        for name in only or (GROUPS if device == "cpu" else ON_DEVICE):
            started = time.perf_counter()
            print(f"{name} ...", file=sys.stderr, flush=True)
            results += importlib.import_module(f"benchmarks.overhead.{name}").run(bench)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            # After each group: what took half an hour to measure must not be lost by what comes after it.
            report = _report(machine, results)
            report.write(out)
    plot(report.series, out / "training.png")
    return report


def _report(machine: Mapping[str, str], results: Sequence[object]) -> Report:
    return Report(
        machine,
        {name: method.what for name, method in METHODS.items()},
        tuple(one for one in results if isinstance(one, Figure)),
        tuple(one for one in results if isinstance(one, Table)),
        tuple(one for one in results if isinstance(one, Series)),
        tuple(one for one in results if isinstance(one, Sample)),
    )
