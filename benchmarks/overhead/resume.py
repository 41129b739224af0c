"""How fast a job goes on: Checkpointer.resume, which verifies, against torch.load and load_state_dict."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.bench import Bench, warm
from benchmarks.child import in_child
from benchmarks.overhead.job import GIGABYTE, QUICK_SHAPE, Job
from benchmarks.overhead.methods import METHODS, save_durably
from benchmarks.overhead.report import Table
from benchmarks.results import Figure, median
from benchmarks.states import same_state, tensor_bytes
from benchmarks.training.model import Shape

GROUP = "Resume"
LIMIT = 0.7
NEWEST, FIRST, LOAD = "castore, newest commit", "castore, first commit", "torch.load + load_state_dict"


@dataclass(frozen=True, slots=True)
class Restored:
    """Seconds of each way to restore a state of so many bytes."""

    state_bytes: int
    seconds: dict[str, list[float]]


def run(bench: Bench) -> Iterator[Figure | Table]:
    shape, commits = (QUICK_SHAPE, 2) if bench.quick else (GIGABYTE, 5)
    with bench.folder("resume") as folder:
        in_child(prepare, folder, shape, commits, bench.device)
        restored = in_child(restore, folder, shape, 2 if bench.quick else 3 * bench.rounds, bench.device)
    for name, seconds in restored.seconds.items():
        bench.say(f"{name}: {', '.join(f'{one:.3f}' for one in seconds)} s")
    medians = {name: median(seconds) for name, seconds in restored.seconds.items()}
    note = f"{restored.state_bytes / 1e6:,.0f} MB, median of {len(restored.seconds[LOAD])}, from the page cache"
    yield Figure(GROUP, f"speed / that of {LOAD}", medians[LOAD] / medians[NEWEST], "x", LIMIT, "at least", note)
    rates = {name: restored.state_bytes / seconds / 1e9 for name, seconds in medians.items()}
    head = f"Into a new model and optimizer each time. The newest of {commits} commits is made of deltas, the first is "
    head += "not. castore verifies what it reads; torch.load does not."
    yield Table(GROUP, head, ("s", "GB/s"), tuple((name, (medians[name], rates[name])) for name in medians))


def prepare(folder: Path, shape: Shape, commits: int, device: str) -> None:
    """A store with commits some steps apart, and the state of the newest as torch.save leaves it."""
    job = Job(shape, 1, device)
    (folder / "store").mkdir()
    method = METHODS["castore"](folder / "store", job, every=5)
    for number in range(commits):
        for _ in range(5):
            job.step(method.before_update)
        method.take(number * 5)
        method.wait()
    save_durably(job.state(), folder / "state.pt")
    method.close()


def restore(folder: Path, shape: Shape, times: int, device: str) -> Restored:
    """Restore in turn, each way as often; the first turn only warms up. Raises RuntimeError if the states differ."""
    import castore

    warm(folder)
    store = castore.open(folder / "store")
    first = [commit.id for commit in store.log("main")][-1]

    def resume(job: Job, rev: str | None = None) -> Callable[[], object]:
        named = {"model": job.model, "optimizer": job.optimizer, "batches": job.batches}
        checkpointer = castore.Checkpointer(store, policy={"steps": [0]}, report=False, **named)
        return lambda: (checkpointer.resume(rev), checkpointer.close())

    def load(job: Job) -> Callable[[], object]:
        return lambda: job.load_state_dict(torch.load(folder / "state.pt", weights_only=True, mmap=False))

    ways = {NEWEST: resume, FIRST: lambda job: resume(job, first), LOAD: load}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(times + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            job = Job(shape, 1, device)
            act = ways[name](job)
            started = time.perf_counter()
            act()
            job.settle()
            if turn:
                seconds[name].append(time.perf_counter() - started)
            elif name == NEWEST:
                _check(job, folder)
    state = tensor_bytes(job.state())
    store.close()
    return Restored(state, seconds)


def _check(job: Job, folder: Path) -> None:
    if not same_state(job.state(), torch.load(folder / "state.pt", weights_only=True)):
        raise RuntimeError("resume did not bring back what torch.save saved at the same step")
