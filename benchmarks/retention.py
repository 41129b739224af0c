"""How long retention takes to decide, on histories that were never trained: `python -m benchmarks.retention`."""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import castore
from castore.objects.commit import Commit, CommitStats, ComponentStats
from castore.retention.decide import decide
from castore.retention.past import Line, Past
from castore.retention.rules import Rules

RULES = {
    "keep_last": 5,
    "keep_every": 50,
    "keep_best": "loss=min:3",
    "keep_hourly": 24,
    "keep_daily": 14,
    "keep_monthly": 12,
    "keep_within": "2d",
    "drop_components": "optimizer:older-than=7d",
}
_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def synthetic(count: int, branches: int) -> Past:
    """One line of `count` commits, ten minutes apart, and branches that leave it all along."""
    parts = {name: ComponentStats(1 << 30, 1 << 30, 1 << 29, 1 << 29, 300) for name in ("model", "optimizer", "rng")}
    commits: list[Commit] = []
    for number in range(count):
        parents = (commits[-1].id,) if commits else ()
        commits.append(
            Commit(
                id=f"{number:032x}",
                tree="0" * 32,
                parents=parents,
                message="",
                step=10 * number,
                metrics={"loss": 1 / (1 + number % 997)},
                author="ada@host",
                time=_START + timedelta(minutes=10 * number),
                environment={},
                meta={},
                tier=None,
                stats=CommitStats(ComponentStats(), parts),
            )
        )
    newest_first = tuple(reversed(commits))
    forks = [newest_first[number * count // branches :] for number in range(branches)]
    return Past(tuple(Line(f"branch b{number}", line) for number, line in enumerate(forks)))


def decide_seconds(count: int, branches: int) -> tuple[float, int]:
    """The time of a decision, and how many states it drops."""
    past = synthetic(count, branches)
    rules = Rules.from_mapping(RULES)
    begin = time.perf_counter()
    decision = decide(past, rules, _START + timedelta(minutes=10 * count))
    seconds = time.perf_counter() - begin
    return seconds, sum(1 for one in decision.verdicts.values() if one.after == "dropped")


def prune_seconds(count: int, directory: Path) -> tuple[float, float, int]:
    """The time of a prune in a real store with that many commits of tiny states, of another one after it, and the
    bytes of packs and marks for each commit when gc is done."""
    with castore.open(directory, create=True) as store:
        for number in range(count):
            when = _START + timedelta(minutes=10 * number)
            store.commit(
                {"model": {"w": number}}, step=10 * number, metrics={"loss": 1 / (1 + number % 997)}, time=when
            )
    times = []
    for _ in range(2):
        with castore.open(directory) as store:
            begin = time.perf_counter()
            store.prune(RULES)
            times.append(time.perf_counter() - begin)
    with castore.open(directory) as store:
        store.gc()
        kept_bytes = store.stats().stored_bytes + (store.path / "dropped").stat().st_size
    return times[0], times[1], kept_bytes // count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--store", action="store_true", help="also prune a real store of so many commits (minutes)")
    arguments = parser.parse_args()
    for branches in (1, 10, 100):
        seconds, dropped = decide_seconds(arguments.commits, branches)
        print(f"{arguments.commits} commits, {branches} branches: decided in {seconds:.2f} s, {dropped} dropped")
    if arguments.store:
        with tempfile.TemporaryDirectory() as directory:
            first, again, each = prune_seconds(arguments.commits, Path(directory))
        print(f"a real store: pruned in {first:.2f} s, once more in {again:.2f} s; {each} bytes a commit after gc")


if __name__ == "__main__":
    main()
