"""Runs of several methods in turn, each in a process of its own, and what they come to."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.child import in_child
from benchmarks.overhead.job import Size
from benchmarks.overhead.loop import Measured, measure_run
from benchmarks.results import median


@dataclass(frozen=True, slots=True)
class Rounds:
    """For each round, a run of each method, in the order in which they ran."""

    runs: tuple[tuple[Measured, ...], ...]

    def of(self, name: str) -> list[Measured]:
        return [run for runs in self.runs for run in runs if run.method == name]

    def has(self, *names: str) -> bool:
        return all(self.of(name) for name in names)

    def stalls_s(self, name: str) -> list[float]:
        return [stall for run in self.of(name) for stall in run.stalls_s]

    def costs_s(self, name: str) -> list[float]:
        """Seconds that a checkpoint adds, of alternating runs: for each, a stretch with it less the one before."""
        return [taken - plain for run in self.of(name) for plain, taken in run.stretches]

    def slowdown(self, name: str) -> float:
        """How much longer steps are beside a checkpoint, as a share, of alternating runs."""
        return median(sum(run.steps_s) / sum(run.plain_steps_s) - 1 for run in self.of(name))

    def cost_beside_none_s(self, name: str) -> float:
        """Seconds that a checkpoint adds to the run, against the run without any of the same round."""
        pairs = zip(self.of(name), self.of("none"), strict=True)
        return median((run.wall_s - base.wall_s) / run.commits for run, base in pairs)

    def bytes_per_commit(self, name: str) -> float:
        return median(run.stored_bytes / run.commits for run in self.of(name))

    def memcpy_s(self, names: Sequence[str]) -> float:
        """A warm copy of the state, in the processes of these methods."""
        return median(seconds for name in names for run in self.of(name) for seconds in run.memcpy_s)


def interleaved(bench: Bench, size: Size, names: Sequence[str]) -> Iterator[Measured]:
    """`bench.rounds` runs of each method, each round beginning with another one."""
    for turn in range(bench.rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            with bench.folder(name) as folder:
                os.sync()  # nobody pays for what another one left unwritten
                run = in_child(measure_run, name, folder, size)
            os.sync()
            stall = median(run.stalls_s) if run.stalls_s else 0.0
            copied = f", copies {median(run.memcpy_s):.3f} s" if run.memcpy_s else ""
            bench.say(f"round {turn + 1}, {name}: {run.wall_s:.1f} s, stall {stall:.3f} s{copied}")
            yield run


def in_rounds(runs: Sequence[Measured], count: int) -> Rounds:
    """The runs that `interleaved` gave for `count` methods."""
    return Rounds(tuple(tuple(runs[i : i + count]) for i in range(0, len(runs), count)))


def p95(samples: Sequence[float]) -> float:
    """The smallest sample that 95% of them don't exceed."""
    return sorted(samples)[math.ceil(0.95 * len(samples)) - 1]
