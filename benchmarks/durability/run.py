"""One run of the durability benchmark, from nothing to its report."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bench import Bench
from benchmarks.durability import GROUPS, QUICK_ROUNDS, ROUNDS
from benchmarks.durability.systems import SYSTEMS
from benchmarks.overhead.report import Report, Table
from benchmarks.results import machine_facts


def run(cache: Path, out: Path, only: Sequence[str], rounds: int | None, quick: bool) -> Report:
    """Run the groups named in `only` (all if empty) and write durability.md and durability.json into `out`.

    rounds: of the group that measures time.
    """
    machine = machine_facts()
    if quick:
        machine["mode"] = "quick: toy sizes, to see that the benchmarks run; the figures mean nothing"
    torch.set_num_threads(1)  # those of OpenMP do not survive a fork
    logging.disable(logging.WARNING)  # DCP says at each save that it is alone
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(prefix="scratch-", dir=cache) as scratch:
        bench = Bench(cache, Path(scratch), rounds or (QUICK_ROUNDS if quick else ROUNDS), quick)
        for name in only or GROUPS:
            started = time.perf_counter()
            print(f"{name} ...", file=sys.stderr, flush=True)
            tables += importlib.import_module(f"benchmarks.durability.{name}").run(bench)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            what = {system.name: system.what for system in SYSTEMS}
            report = Report(machine, what, (), tuple(tables), (), (), "durability")
            report.write(out)
    return report
