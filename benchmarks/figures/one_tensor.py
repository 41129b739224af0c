"""One tensor out of a large commit: what is read for it, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, cool
from benchmarks.child import Usage, in_child, measure
from benchmarks.results import Figure, median

GROUP = "One tensor out of a large commit"
TENSOR = "model.layers.1.weight"
SMALL = 1 << 20


def run(bench: Bench) -> Iterator[Figure]:
    total, tensor = (64 << 20, 2 << 20) if bench.quick else (1 << 30, 4 << 20)
    with bench.folder("one-tensor") as folder:
        (folder / "large").mkdir()
        (folder / "small").mkdir()
        in_child(build, folder / "large", total, tensor)
        in_child(build, folder / "small", 4 * SMALL, SMALL)
        usages = []
        for _ in range(bench.rounds):
            cool(folder / "large")
            usages.append(in_child(load_one, folder))
        warm_seconds = median(in_child(load_one, folder).seconds for _ in range(bench.rounds))
    # Delta records need their bases, one per level, so the target allows for the tensor, its parent and 1 MiB besides.
    limit = (2 * tensor + (1 << 20)) / 1e6
    note = f"a tensor of {tensor / 1e6:.1f} MB in a commit of {total / 1e6:.0f} MB with one parent"
    calls = median(usage.read_bytes for usage in usages) / 1e6
    disk = median(usage.disk_bytes for usage in usages) / 1e6
    yield Figure(GROUP, "read by system calls", calls, "MB", limit, note=note)
    yield Figure(GROUP, "read from disk, cold cache", disk, "MB", note="whole pages with the kernel's read-ahead")
    yield Figure(GROUP, "time, cold cache", median(usage.seconds for usage in usages), "s", note="a store just opened")
    yield Figure(GROUP, "time, page cache", warm_seconds, "s", note="a store just opened")


def build(folder: Path, total: int, tensor: int) -> None:
    import castore
    from benchmarks.states import large_state

    store = castore.open(folder, create=True)
    for step in range(2):
        store.commit(large_state(total, step, tensor), branch="main", message=f"step {step}")
    store.close()


def load_one(folder: Path) -> Usage:
    """Usage of loading TENSOR from a store just opened."""
    import castore

    # The same from a small store first: what Python reads to import torch and the kernels is not the tensor's.
    with castore.open(folder / "small") as store:
        store.load("main", only=TENSOR)
    store = castore.open(folder / "large")
    usage = measure(lambda: store.load("main", only=TENSOR))
    store.close()
    return usage
