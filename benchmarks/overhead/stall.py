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
    "waited, s",
    "at the end, s",
    "steps longer by, %",
    "cost, s",
    "cheapest round",
    "dearest",
    "MB per commit",
)
NOTE = (
    "stall: the call that takes the checkpoint, and what it holds up the next update for; median and 95th percentile. "
    "first: the call of the very first, which is not counted. waited: for the checkpoint before to be durable; median. "
    "at the end: after the last step, until all is durable. cost: what a checkpoint adds to the wall time of the run, "
    "against the run without any of the same round; median of the rounds."
)


def run(bench: Bench) -> Iterator[Figure | Table | Sample | Series]:
    size = _size(bench)
    names = tuple(METHODS) if bench.device == "cpu" else ON_DEVICE
    own = [name for name in CASTORE if name in names]
    runs = []
    for number, one in enumerate(interleaved(bench, size, names)):
        runs.append(one)
        yield Sample("stall", number // len(names) + 1, one)
    rounds = in_rounds(runs, len(names))
    yield from _stalls(rounds, own)
    yield from _costs(rounds, own)
    state = runs[0].state_bytes / 1e6
    memcpy = rounds.memcpy_s(names)
    where = "" if bench.device == "cpu" else f" on a device ({bench.device})"
    head = f"{state:,.0f} MB of state{where}, {size.commits} commits {size.every} steps apart, {bench.rounds} rounds; "
    head += f"a step takes {median(runs_steps(rounds, 'none')):.3g} s, a warm copy of the state {memcpy:.3g} s. "
    yield Table(COST, head + NOTE, COLUMNS, tuple((name, _row(rounds, name)) for name in names))
    for name in names:
        if name != "none":
            yield Series("bar", "stall", name, (median(rounds.stalls_s(name)),), "s")
            yield Series("bar", "cost of a commit", name, (rounds.cost_s(name),), "s")


def _size(bench: Bench) -> Size:
    if bench.quick:
        return Size(QUICK_SHAPE, 4, every=2, commits=2, device=bench.device)
    if bench.device == "cpu":
        return Size(GIGABYTE, 1, every=8, commits=4)
    return Size(GIGABYTE, 32, every=50, commits=4, device=bench.device)


def runs_steps(rounds: Rounds, name: str) -> list[float]:
    return [seconds for one in rounds.of(name) for seconds in one.steps_s]


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
            own, other = rounds.cost_s(name), rounds.cost_s(rival)
            note = f"{own:.3g} s against {other:.3g} s"
            yield Figure(COST, f"{name} / {rival}", own / other, "x", limit, note=note)


def _row(rounds: Rounds, name: str) -> tuple[float | None, ...]:
    ones = rounds.of(name)
    if name == "none":
        return (None,) * len(COLUMNS)
    pairs = zip(ones, rounds.of("none"), strict=True)
    costs = sorted((one.wall_s - base.wall_s) / one.commits for one, base in pairs)
    stalls = rounds.stalls_s(name)
    return (
        median(stalls),
        p95(stalls),
        median(one.warm_up_s[0] for one in ones),
        median(seconds for one in ones for seconds in one.waits_s),
        median(one.drain_s for one in ones),
        100 * rounds.slowdown(name),
        rounds.cost_s(name),
        costs[0],
        costs[-1],
        rounds.bytes_per_commit(name) / 1e6,
    )
