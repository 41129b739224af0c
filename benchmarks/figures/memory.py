"""Peak memory of a commit and of a load beyond the state itself, and of files through the store and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.child import Usage, castore_command, in_child, measure
from benchmarks.results import Figure

GROUP = "Peak memory"
LIMIT_MB = 512


def run(bench: Bench) -> Iterator[Figure]:
    for size in (64 << 20,) if bench.quick else (512 << 20, 1 << 30, 2 << 30):
        label = f"{size >> 20} MiB state"
        with bench.folder("memory") as folder:
            in_child(commit_state, folder, size, 0)
            committed = in_child(commit_state, folder, size, 1)
            loaded = in_child(load_state, folder, size)
        yield _figure(f"{label}: commit with a parent, beyond the state", committed.grown_bytes, committed)
        yield _figure(f"{label}: load, beyond the state", loaded.grown_bytes - size, loaded)
        with bench.folder("memory") as folder:
            yield from _files(folder, size)
        bench.say(f"{label}: done")


def _files(folder: Path, size: int) -> Iterator[Figure]:
    store = f"{folder}/.castore"
    in_child(castore_command, "init", str(folder))
    for step in range(2):
        in_child(write_file, folder / f"step{step}.pt", size, step)
        path = str(folder / f"step{step}.pt")
        committed = in_child(castore_command, "-C", store, "commit", path, "-m", f"step {step}", "--branch", "main")
        (folder / f"step{step}.pt").unlink()
    output = str(folder / "out")
    restored = in_child(castore_command, "-C", store, "checkout", "main", "-o", output)
    label = f"{size >> 20} MiB .pt"
    yield _figure(f"{label}: file to store with a parent, in all", committed.peak_bytes, committed)
    yield _figure(f"{label}: store to file, in all", restored.peak_bytes, restored)


def _figure(name: str, peak_bytes: int, usage: Usage) -> Figure:
    return Figure(GROUP, name, max(0, peak_bytes) / 2**20, "MiB", LIMIT_MB, note=f"{usage.seconds:.2f} s")


def commit_state(folder: Path, size: int, step: int) -> Usage:
    import castore
    from benchmarks.states import large_state

    store = castore.open(folder, create=True)
    state = large_state(size, step)
    usage = measure(lambda: store.commit(state, branch="main", message=f"step {step}"))
    store.close()
    return usage


def load_state(folder: Path, size: int) -> Usage:
    # Without torch the load would be charged for importing it, and a program that loads a state has it already.
    import torch  # noqa: F401

    import castore

    store = castore.open(folder)
    usage = measure(lambda: store.load("main"))
    store.close()
    return usage


def write_file(path: Path, size: int, step: int) -> None:
    import torch

    from benchmarks.states import large_state

    torch.save(large_state(size, step), path)
