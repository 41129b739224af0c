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
LOAD = "torch.load + load_state_dict"
# Of two runs: in haste, as commits are by default where training keeps all cores busy, and with all the effort, as they
# are where it does not. The newest of the latter is made of deltas.
NEWEST, DELTAS, FIRST = "castore, newest commit", "castore-full, newest commit", "castore-full, first commit"
MADE_BY = {NEWEST: "castore", DELTAS: "castore-full"}


@dataclass(frozen=True, slots=True)
class Restored:
    """Seconds of each way to restore a state of so many bytes. deltas: their share of what the commit stored."""

    state_bytes: int
    seconds: dict[str, list[float]]
    deltas: dict[str, float]


def run(bench: Bench) -> Iterator[Figure | Table]:
    shape, commits = (QUICK_SHAPE, 2) if bench.quick else (GIGABYTE, 5)
    with bench.folder("resume") as folder:
        for name in MADE_BY.values():
            in_child(prepare, folder, shape, commits, bench.device, name)
        restored = in_child(restore, folder, shape, 2 if bench.quick else 3 * bench.rounds, bench.device)
    for name, seconds in restored.seconds.items():
        bench.say(f"{name}: {', '.join(f'{one:.3f}' for one in seconds)} s")
    medians = {name: median(seconds) for name, seconds in restored.seconds.items()}
    for name in MADE_BY:
        note = f"{restored.state_bytes / 1e6:,.0f} MB, {restored.deltas[name]:.0%} of the stored bytes deltas; "
        note += f"median of {len(restored.seconds[LOAD])}, from the page cache"
        yield Figure(GROUP, f"{name} / {LOAD}", medians[LOAD] / medians[name], "x", LIMIT, "at least", note)
    rates = {name: restored.state_bytes / seconds / 1e9 for name, seconds in medians.items()}
    head = (
        f"Into a new model and optimizer each time, from {commits} commits. castore verifies what it reads; torch.load "
    )
    head += "does not. As commits are by default, and with effort='full'."
    yield Table(GROUP, head, ("s", "GB/s"), tuple((name, (medians[name], rates[name])) for name in medians))


def prepare(folder: Path, shape: Shape, commits: int, device: str, name: str) -> None:
    """A method's store with commits some steps apart, and the state of the newest as torch.save leaves it."""
    job = Job(shape, 1, device)
    (folder / name).mkdir()
    method = METHODS[name](folder / name, job, every=5)
    for number in range(commits):
        for _ in range(5):
            job.step(method.before_update)
        method.take(number * 5)
        method.wait()
    save_durably(job.state(), folder / f"{name}.pt")
    method.close()


def restore(folder: Path, shape: Shape, times: int, device: str) -> Restored:
    """Restore in turn, each way as often; the first turn only warms up. Raises RuntimeError if the states differ."""
    import castore

    warm(folder)
    stores = {name: castore.open(folder / name) for name in MADE_BY.values()}
    stored = {way: stores[name].show("main").stats.total for way, name in MADE_BY.items()}
    deltas = {way: total.delta_bytes / total.stored_bytes for way, total in stored.items()}
    first = [commit.id for commit in stores["castore-full"].log("main")][-1]

    def resume(store: castore.Store, rev: str | None = None) -> Callable[[Job], object]:
        def act(job: Job) -> None:
            named = {"model": job.model, "optimizer": job.optimizer, "batches": job.batches}
            with castore.Checkpointer(store, policy={"steps": [0]}, report=False, **named) as checkpointer:
                checkpointer.resume(rev)

        return act

    def load(job: Job) -> None:
        job.load_state_dict(torch.load(folder / "castore.pt", weights_only=True, mmap=False))

    full = stores["castore-full"]
    ways = {NEWEST: resume(stores["castore"]), DELTAS: resume(full), FIRST: resume(full, first), LOAD: load}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(times + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            job = Job(shape, 1, device)
            started = time.perf_counter()
            ways[name](job)
            job.settle()
            if turn:
                seconds[name].append(time.perf_counter() - started)
            elif name in MADE_BY:
                _check(job, folder / f"{MADE_BY[name]}.pt")
    state = tensor_bytes(job.state())
    for store in stores.values():
        store.close()
    return Restored(state, seconds, deltas)


def _check(job: Job, path: Path) -> None:
    if not same_state(job.state(), torch.load(path, weights_only=True)):
        raise RuntimeError("resume did not bring back what torch.save saved at the same step")
