"""How long the loop stands still for a checkpoint, and what one adds to the time of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.bench import Bench
from benchmarks.overhead.compare import Rounds, in_rounds, interleaved, p95
from benchmarks.overhead.job import GIGABYTE, QUICK_SHAPE, Size
from benchmarks.overhead.methods import CASTORE, METHODS, ON_DEVICE
from benchmarks.overhead.report import Sample, Table
from benchmarks.results import Figure, Series, median

STALL, COST = "Stall of a commit", "Cost of a commit"
COLUMNS = (
    "stall, s",
    "p95",
    "first",
    "at the end, s",
    "steps longer by, %",
    "cost, s",
    "least",
    "most",
    "MB per commit",
)
NOTE = (
    "stall: the call that takes the checkpoint, and what it holds up the next update for; median and 95th percentile. "
    "first: the call of the very first, which is not counted. at the end: after the steps that follow, until it is "
    "durable; median. cost: what a checkpoint adds to the time of a stretch of steps, to whose end it is durable, "
    "against the stretch without one before; median, least and most of all checkpoints."
)


def run(bench: Bench) -> Iterator[Figure | Table | Sample | Series]:
    size = _size(bench)
    names = [name for name in (METHODS if bench.device == "cpu" else ON_DEVICE) if name != "none"]
    own = [name for name in CASTORE if name in names]
    runs = []
    for number, one in enumerate(interleaved(bench, size, names)):
        runs.append(one)
        yield Sample("stall", number // len(names) + 1, one)
    rounds = in_rounds(runs, len(names))
    yield from _stalls(rounds, own)
    yield from _costs(rounds, own)
    state = runs[0].state_bytes / 1e6
    step = median(seconds for one in runs for seconds in one.plain_steps_s)
    memcpy = rounds.memcpy_s(names)
    where = "" if bench.device == "cpu" else f" on a device ({bench.device})"
    head = f"{state:,.0f} MB of state{where}, {size.commits} checkpoints, each between {size.every} steps without one "
    head += f"and {size.every} with, {bench.rounds} rounds; a step takes {step:.3g} s, a warm copy of the state "
    head += f"{memcpy:.3g} s. "
    yield Table(COST, head + NOTE, COLUMNS, tuple((name, _row(rounds, name)) for name in names))
    for name in names:
        yield Series("bar", "stall", name, (median(rounds.stalls_s(name)),), "s")
        yield Series("bar", "cost of a commit", name, (median(rounds.costs_s(name)),), "s")


def _size(bench: Bench) -> Size:
    if bench.quick:
        return Size(QUICK_SHAPE, 4, every=2, commits=2, device=bench.device, alternating=True)
    if bench.device == "cpu":
        return Size(GIGABYTE, 1, every=4, commits=8, alternating=True)
    return Size(GIGABYTE, 32, every=30, commits=4, device=bench.device, alternating=True)


def _stalls(rounds: Rounds, own: Sequence[str]) -> Iterator[Figure]:
    """castore against a copy in memory and DCP. Its copy is measured in its own processes, in the same minutes."""
    for name in own:
        stalls = rounds.stalls_s(name)
        copied = rounds.memcpy_s((name,))
        for limit, rival, seconds in (
            (1.2, "a warm copy of the state", copied),
            (0.5, "dcp-async", median(rounds.stalls_s("dcp-async"))),
            (1.0, "dcp-async-reused", median(rounds.stalls_s("dcp-async-reused"))),
        ):
            note = f"median of {len(stalls)}: {median(stalls):.3g} s against {seconds:.3g} s"
            yield Figure(STALL, f"{name} / {rival}", median(stalls) / seconds, "x", limit, note=note)


def _costs(rounds: Rounds, castore: Sequence[str]) -> Iterator[Figure]:
    for name in castore:
        for limit, rival in ((0.5, "torch.save"), (1.0, "dcp-async"), (1.0, "dcp-async-reused")):
            own, other = median(rounds.costs_s(name)), median(rounds.costs_s(rival))
            note = f"{own:.3g} s against {other:.3g} s"
            yield Figure(COST, f"{name} / {rival}", own / other, "x", limit, note=note)


def _row(rounds: Rounds, name: str) -> tuple[float, ...]:
    ones = rounds.of(name)
    stalls, costs = rounds.stalls_s(name), rounds.costs_s(name)
    return (
        median(stalls),
        p95(stalls),
        median(one.warm_up_s[0] for one in ones),
        median(seconds for one in ones for seconds in one.waits_s),
        100 * rounds.slowdown(name),
        median(costs),
        min(costs),
        max(costs),
        rounds.bytes_per_commit(name) / 1e6,
    )
