"""How many commits a second there are, and how many there would be without fsync."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.durability.forked import forked
from benchmarks.durability.systems import (
    Castore,
    State,
    System,
    TorchSaveNumbered,
    TorchSaveRenamed,
    state_of,
)
from benchmarks.overhead.report import Table
from benchmarks.results import median

SIZES = {"4 kB": (4_000, 200), "1 MB": (1_000_000, 60), "100 MB": (100_000_000, 4)}  # bytes, and saves a round
QUICK_SIZES = {"4 kB": (4_000, 5), "1 MB": (1_000_000, 2)}


class _OpenStore(Castore):
    """As a training loop has it: opened once."""

    def save(self, folder: Path, state: State, step: int) -> None:
        import castore

        if step == 0:
            self._store = castore.open(folder, create=True)
        self._store.commit(dict(state), step=step, run=self._run)


SYSTEMS: tuple[type[System], ...] = (_OpenStore, TorchSaveNumbered, TorchSaveRenamed)


def run(bench: Bench) -> Iterator[Table]:
    """Saves a second of each system and size, with fsync and without."""
    sizes = QUICK_SIZES if bench.quick else SIZES
    rates: dict[tuple[str, str], list[float]] = {}
    syncs: dict[tuple[str, str], float] = {}
    ways = [(made, durable) for made in SYSTEMS for durable in (True, False)]
    for turn in range(bench.rounds):
        for size, (nbytes, count) in sizes.items():
            first = turn % len(ways)
            for made, durable in (*ways[first:], *ways[:first]):
                name = made.name if durable else f"{made.name}, no fsync"
                with bench.folder("cost") as folder:
                    rate, each = saves_per_second(made, folder, nbytes, count, durable)
                rates.setdefault((name, size), []).append(rate)
                syncs[name, size] = each
                bench.say(f"round {turn + 1}, {size}, {name}: {rate:.1f}/s, {each:.1f} fsyncs each")
    note = (
        f"Saves a second, median of {bench.rounds} rounds of "
        + ", ".join(f"{count} of {size}" for size, (_, count) in sizes.items())
        + ". Every value moves a little from state to state. castore has no setting without fsync: in a process of its "
        "own, os.fsync and os.fdatasync are replaced by a function that only counts."
    )
    rows = []
    for made in SYSTEMS:
        name, without = made.name, f"{made.name}, no fsync"
        cells = []
        for size in sizes:
            with_, without_ = median(rates[name, size]), median(rates[without, size])
            cells += [with_, without_, with_ / without_, syncs[without, size]]
        rows.append((name, tuple(cells)))
    columns = [f"{size}{what}" for size in sizes for what in (", a second", ", no fsync", ", share", ", fsyncs each")]
    yield Table("The cost of safety", note, tuple(columns), tuple(rows))


def saves_per_second(made: type[System], folder: Path, nbytes: int, count: int, durable: bool) -> tuple[float, float]:
    """How many saves a second a process makes, and the fsyncs of each, where they are counted."""

    def work(tell: Callable[[bytes], object]) -> None:
        counted = [0]

        def count_only(descriptor: int) -> None:
            counted[0] += 1

        if not durable:
            os.fsync = os.fdatasync = count_only
        system = made(state_of(nbytes, 0))
        seconds = 0.0
        for step in range(count + 1):
            state = state_of(nbytes, step)
            began = time.perf_counter()
            system.save(folder, state, step)
            if step == 0:
                counted[0] = 0  # the first save makes the store, and is not measured
            else:
                seconds += time.perf_counter() - began
        tell(struct.pack("<dd", count / seconds, counted[0] / count))

    os.sync()  # nobody pays for what another one left unwritten
    with forked(work) as child:
        told = b"".join(iter(lambda: child.hear(600) or b"", b""))
    rate, each = struct.unpack("<dd", told)
    return rate, each
