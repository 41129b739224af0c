"""`castore log` from the shell: a process from its start to its end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import castore
from benchmarks.bench import Bench, seconds_of
from benchmarks.results import Figure, median
from benchmarks.states import small_tensors

GROUP = "From the shell"
REPEATS = 20


def run(bench: Bench) -> Iterator[Figure]:
    with bench.folder("log") as folder:
        store = castore.open(folder, create=True)
        for i in range(10):
            store.commit(small_tensors(10, seed=i), branch="main", message=f"commit {i}", step=i)
        store.close()
        script = Path(sys.executable).with_name("castore")
        command = [str(script)] if script.exists() else [sys.executable, "-m", "castore"]
        commands = {
            "castore log": [*command, "-C", str(folder), "log"],
            "python": [sys.executable, "-c", "pass"],
            "import castore": [sys.executable, "-c", "import castore"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(REPEATS):
            for name, words in commands.items():
                run_once = partial(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)
                times[name].append(seconds_of(run_once))
    rivals = tuple((name, median(samples)) for name, samples in times.items() if name != "castore log")
    note = f"10 commits, median of {REPEATS} processes"
    yield Figure(GROUP, "castore log", median(times["castore log"]), "s", 0.25, note=note, rivals=rivals)
