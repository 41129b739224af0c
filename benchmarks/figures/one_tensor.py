"""One tensor out of a large commit: what is read for it, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, cool
from benchmarks.child import Usage, in_child, measure
from benchmarks.results import Figure, median

GROUP = "One tensor out of a large commit"
TENSOR = "model.layers.1.weight"


def run(bench: Bench) -> Iterator[Figure]:
    total, tensor = (64 << 20, 2 << 20) if bench.quick else (1 << 30, 4 << 20)
    with bench.folder("one-tensor") as folder:
        in_child(build, folder, total, tensor)
        usages = []
        for _ in range(bench.rounds):
            cool(folder)
            usages.append(in_child(load_one, folder))
        warm_seconds = median(in_child(load_one, folder).seconds for _ in range(bench.rounds))
    # Delta records need their bases, one per level, so the target allows for the tensor, its parent and 1 MiB besides.
    limit = (2 * tensor + (1 << 20)) / 1e6
    note = f"a tensor of {tensor / 1e6:.1f} MB in a commit of {total / 1e6:.0f} MB with one parent"
    calls = median(usage.read_bytes for usage in usages) / 1e6
    disk = median(usage.disk_bytes for usage in usages) / 1e6
    yield Figure(GROUP, "read by system calls", calls, "MB", limit, note=note)
    yield Figure(GROUP, "read from disk, cold cache", disk, "MB", note="whole pages with the kernel's read-ahead")
    yield Figure(GROUP, "time, cold cache", median(usage.seconds for usage in usages), "s", note="a new process")
    yield Figure(GROUP, "time, page cache", warm_seconds, "s", note="a new process, loading torch and kernels included")


def build(folder: Path, total: int, tensor: int) -> None:
    import castore
    from benchmarks.states import large_state

    store = castore.open(folder, create=True)
    for step in range(2):
        store.commit(large_state(total, step, tensor), branch="main", message=f"step {step}")
    store.close()


def load_one(folder: Path) -> Usage:
    """Usage of loading TENSOR; importing torch and castore comes before it."""
    import torch  # noqa: F401

    import castore

    store = castore.open(folder)
    usage = measure(lambda: store.load("main", only=TENSOR))
    store.close()
    return usage
