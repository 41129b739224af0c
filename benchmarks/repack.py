"""What repack and gc take, and what they give, on a run that is trained here: `python -m benchmarks.repack`.

A transformer is trained, every checkpoint is committed as a live state, then: repack, a prune that keeps every fourth
state, repack and gc. Each is run in a process of its own, which gives its peak memory.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import castore
from benchmarks.child import Usage, in_child, measure
from benchmarks.states import same_state
from benchmarks.training.model import Shape
from benchmarks.training.run import Settings, train
from benchmarks.trajectories import cache_folder
from castore.maintenance.reports import GcReport, RepackReport

_MIB = 1 << 20


def checkpoints(kind: str, count: int, every: int, shape: Shape, cache: Path) -> list[Path]:
    """The checkpoints of a run, from the cache or trained now."""
    name = f"repack-{kind}-{count}x{every}-{shape.layers}x{shape.width}"
    folder = cache / name
    if not folder.exists():
        partial = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
        saved = tuple(range(every, every + count)) if every == 1 else ()
        train(Settings(kind=kind, checkpoints=count, every=every, shape=shape, save_at=saved), partial, None)
        partial.rename(folder)
    return sorted(folder.glob("step-*.pt"))


@dataclass(frozen=True, slots=True)
class Work:
    """What a piece of work did, in bytes, and took. cpu_s: of all threads; what to compare on a busy machine."""

    done_bytes: int
    cpu_s: float
    usage: Usage


def cpu_seconds(action: Callable[[], object]) -> float:
    before = time.process_time()
    action()
    return time.process_time() - before


def repack_store(path: str) -> Work:
    """Bytes: raw ones that were encoded anew."""
    reports: list[RepackReport] = []
    with castore.open(path) as store:
        before = time.process_time()
        usage = measure(lambda: reports.append(store.repack()))
        return Work(reports[0].encoded_bytes, time.process_time() - before, usage)


def collect_store(path: str) -> Work:
    """Bytes: that gc freed."""
    reports: list[GcReport] = []
    with castore.open(path) as store:
        before = time.process_time()
        usage = measure(lambda: reports.append(store.gc()))
        return Work(reports[0].freed_bytes, time.process_time() - before, usage)


def stored(path: Path) -> int:
    return sum(one.stat().st_size for one in path.rglob("*.pack"))


def say(title: str, work: Work, what: str) -> None:
    peak, grown = work.usage.peak_bytes / _MIB, work.usage.grown_bytes / _MIB
    print(
        f"  {title}: {work.done_bytes / 1e6:.0f} MB {what}, {work.cpu_s:.2f} s of CPU in {work.usage.seconds:.2f} s, "
        f"{work.done_bytes / work.cpu_s / 1e6:.0f} MB a second of CPU; peak {peak:.0f} MiB, {grown:.0f} its own"
    )


def report_loads(path: Path, commits: Mapping[str, str]) -> None:
    """Medians of five loads each, in turn, from the page cache; the first of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in commits}
    with castore.open(path) as store:
        for turn in range(6):
            for name, commit in commits.items():
                seconds = cpu_seconds(lambda commit=commit: store.load(commit))  # type: ignore[misc]
                if turn:
                    times[name].append(seconds)
    found = (f"{name} {statistics.median(seconds) * 1e3:.0f} ms" for name, seconds in times.items())
    print("  load, of CPU:", ", ".join(found))


def check(path: Path, expected: dict[str, Path]) -> None:
    """Every state comes back bit for bit."""
    with castore.open(path) as store:
        for commit, file in expected.items():
            if not same_state(store.load(commit), torch.load(file, weights_only=True)):
                raise SystemExit(f"commit {commit} differs from {file}")


def run(name: str, files: list[Path], folder: Path) -> None:
    raw_bytes = sum(file.stat().st_size for file in files)
    print(f"{name}: {len(files)} commits, {raw_bytes / 1e6:.0f} MB raw")
    path = folder / name / ".castore"
    commits: dict[str, Path] = {}
    with castore.open(path, create=True) as store:
        for file in files:
            commits[store.commit(torch.load(file, weights_only=True), step=int(file.stem.split("-")[1])).id] = file
    ids = list(commits)
    chosen = {"newest": ids[-1], "the one before": ids[-2], "middle": ids[len(ids) // 2], "oldest": ids[0]}

    def show(what: str) -> None:
        print(f"  {what}: {stored(path) / 1e6:.1f} MB, {stored(path) / raw_bytes:.4f} of raw")

    show("stored")
    report_loads(path, chosen)
    for title in ("repack", "repack once more"):
        say(title, in_child(repack_store, str(path)), "encoded")
    show("after repack")
    report_loads(path, chosen)
    check(path, commits)
    with castore.open(path) as store:
        kept = ids[:-1:4] + ids[-1:]
        for commit in kept:
            store.pin(commit)
        store.prune({"keep_last": 1})
    say("pruned to every fourth; repack", in_child(repack_store, str(path)), "encoded")
    say("gc", in_child(collect_store, str(path)), "freed")
    print(f"  {stored(path) / 1e6:.1f} MB for {len(kept)} states")
    check(path, {commit: commits[commit] for commit in kept})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=28)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--cache", type=Path, default=None)
    arguments = parser.parse_args()
    shape = Shape(layers=arguments.layers, width=arguments.width, heads=arguments.width // 64)
    cache = cache_folder(arguments.cache)
    folder = Path(tempfile.mkdtemp(prefix="scratch-repack-", dir=cache))
    try:
        for kind, every in (("gpt-fp32", 20), ("gpt-bf16", 20), ("gpt-fp32", 1)):
            files = checkpoints(kind, arguments.commits, every, shape, cache)
            run(f"{kind}, every {every}", files, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
