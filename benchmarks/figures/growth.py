"""What a long history costs: opening, committing, log and gc with 2,000 commits against 10."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import castore
from benchmarks.bench import Bench, seconds_of
from benchmarks.child import Usage, in_child, measure
from benchmarks.results import Figure, Series, median
from benchmarks.states import small_tensors

GROUP = "Growth"
TENSORS = 50
# "What it took" is measured on a shared machine: a fifth more is the spread between two medians of the same thing.
TOLERANCE = 1.2


def run(bench: Bench) -> Iterator[Figure | Series]:
    many = 60 if bench.quick else 2_000
    with bench.folder("growth") as folder:
        for name, commits in (("few", 10), ("many", many)):
            seconds = seconds_of(partial(_build, folder / name, commits))
            bench.say(f"{commits} commits: {seconds:.1f} s")
        yield from _compare(bench, folder, many)
        (folder / "half").mkdir()
        _build(folder / "half", many // 2)
        yield from _gc(bench, folder, many)


def _build(folder: Path, commits: int) -> None:
    store = castore.open(folder, create=True)
    for i in range(commits):
        store.commit(small_tensors(TENSORS, seed=i), branch="main", message=f"commit {i}", step=i)
    store.close()


def _compare(bench: Bench, folder: Path, many: int) -> Iterator[Figure]:
    """Each action on the store with few commits and on the one with many, in turns."""
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(max(5, 4 * bench.rounds)):
        for name in ("few", "many"):
            for action, seconds in _once(folder / name, turn):
                times.setdefault((action, name), []).append(seconds)
    for action in ("open", "commit", "log -n 10"):
        few, more = (median(times[action, name]) * 1e3 for name in ("few", "many"))
        note = f"{few:.2f} ms with 10 commits; target: the same + {TOLERANCE - 1:.0%}"
        yield Figure(GROUP, f"{action} with {many:,} commits", more, "ms", few * TOLERANCE, note=note)


def _once(folder: Path, turn: int) -> Iterator[tuple[str, float]]:
    opened: list[Any] = []
    yield "open", seconds_of(lambda: opened.append(castore.open(folder)))
    store = opened[0]
    state = small_tensors(TENSORS, seed=1_000_000 + turn)
    commit: Callable[[], object] = partial(store.commit, state, branch="main", message="one more")
    yield "commit", seconds_of(commit, settle=True)
    yield "log -n 10", seconds_of(lambda: list(islice(store.log("main"), 10)))
    store.close()


def _gc(bench: Bench, folder: Path, many: int) -> Iterator[Figure | Series]:
    """gc of everything live, on stores of 10, half and all of the commits; memory and time are slopes between them."""
    records, grown, mapped, seconds = [], [], [], []
    repeats = 1 if bench.quick else max(3, bench.rounds // 2)
    for name in ("few", "half", "many"):
        samples = [in_child(collect, folder / name, folder / "few") for _ in range(repeats)]
        records.append(samples[0][0])
        grown.append(median(sample[1].anonymous_bytes for sample in samples))
        mapped.append(median(sample[1].grown_bytes for sample in samples) - grown[-1])
        seconds.append(median(sample[1].seconds for sample in samples))
        bench.say(f"gc: {records[-1]:,} records, {grown[-1] / 1e6:.1f} MB, {seconds[-1]:.3f} s")
    per_record = (grown[2] - grown[0]) / (records[2] - records[0])
    pages = (mapped[2] - mapped[0]) / (records[2] - records[0])
    note = f"{records[2]:,} live records, {grown[2] / 1e6:.1f} MB; the mapped index takes {pages:.0f} bytes each beside"
    yield Figure(GROUP, "gc memory per live record", max(0.0, per_record), "bytes", 200, note=note)
    lower, upper = ((seconds[i + 1] - seconds[i]) / (records[i + 1] - records[i]) * 1e6 for i in (0, 1))
    note = f"{lower:.2f} us in the first half; {seconds[2]:.2f} s for {records[2]:,}"
    # Linear: a record of the second half costs what one of the first did; twice as much leaves room for noise.
    yield Figure(GROUP, "gc time per live record, second half", upper, "us", 2 * lower, note=note)
    for count, value in zip(records, seconds, strict=True):
        yield Series("bar", "gc time by live records", f"{count:,}", (value,), "s")


def collect(folder: Path, small: Path) -> tuple[int, Usage]:
    """Live records of `folder`, and what a gc of it takes in this process."""
    # On a small store first: what gc imports is no cost of its records, and this frees no large heap to be used again.
    with castore.open(small) as store:
        store.gc(dry_run=True)
    store = castore.open(folder)
    reports: list[Any] = []
    usage = measure(lambda: reports.append(store.gc()))
    store.close()
    return reports[0].live_chunks, usage
