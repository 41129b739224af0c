"""A commit after every step of a small GPT: what it costs in time and in bytes."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.overhead.compare import Rounds, in_rounds, interleaved, p95
from benchmarks.overhead.job import QUICK_SHAPE, Size
from benchmarks.overhead.report import Sample, Table
from benchmarks.results import Figure, median
from benchmarks.training.model import Shape

GROUP = "A commit every step"
NAMES = ("none", "torch.save", "dcp-async-reused", "castore", "castore-thread", "castore-disk")
COLUMNS = ("s per step", "stall, s", "p95", "waited, s", "cost, s", "time / none", "MB per commit", "bytes / state")


def run(bench: Bench) -> Iterator[Figure | Table | Sample]:
    # The first steps change a state far more than all later ones: the commits come after them.
    usual = Size(Shape(), 8, every=1, commits=60, before=50, yardsticks=0, device=bench.device)
    size = Size(QUICK_SHAPE, 4, every=1, commits=3, yardsticks=0, device=bench.device) if bench.quick else usual
    runs = []
    for number, one in enumerate(interleaved(bench, size, NAMES)):
        runs.append(one)
        yield Sample("every_step", number // len(NAMES) + 1, one)
    rounds = in_rounds(runs, len(NAMES))
    state = runs[0].state_bytes
    own, other = rounds.bytes_per_commit("castore"), rounds.bytes_per_commit("torch.save")
    note = f"{own / 1e6:.1f} MB against {other / 1e6:.1f} MB"
    yield Figure(GROUP, "bytes per commit / torch.save", own / other, "x", note=note)
    own, other = rounds.cost_beside_none_s("castore"), rounds.cost_beside_none_s("torch.save")
    note = f"{own:.3g} s against {other:.3g} s"
    yield Figure(GROUP, "cost per commit / torch.save", own / other, "x", note=note)
    head = f"{state / 1e6:.0f} MB of state, {size.commits} commits after {size.before} steps without, "
    head += f"{bench.rounds} rounds. s per step: wall time of the run with all waits, by its steps; the rest as above."
    yield Table(GROUP, head, COLUMNS, tuple((name, _row(rounds, name)) for name in NAMES))


def _row(rounds: Rounds, name: str) -> tuple[float | None, ...]:
    ones = rounds.of(name)
    per_step = median(one.wall_s / len(one.steps_s) for one in ones)
    if name == "none":
        return (per_step, *(None,) * (len(COLUMNS) - 1))
    stalls = rounds.stalls_s(name)
    pairs = zip(ones, rounds.of("none"), strict=True)
    stored = rounds.bytes_per_commit(name)
    return (
        per_step,
        median(stalls),
        p95(stalls),
        median(seconds for one in ones for seconds in one.waits_s),
        rounds.cost_beside_none_s(name),
        median(one.wall_s / base.wall_s for one, base in pairs),
        stored / 1e6,
        stored / ones[0].state_bytes,
    )
