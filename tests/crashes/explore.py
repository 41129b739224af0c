"""Cuts the power in scenarios, at every operation, and checks each store that this could leave.

`tools/crash_explore --states 50000` tries so many states, over two processes, and prints a line a scenario. A failure
names the scenario, and what `--scenario NAME --position N --kind K --seed S` takes to meet it again.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import torch

from castore.testing.power_cuts import BY_CHANCE, KINDS, ONCE, Cut, Trace, cuts, put_cut
from castore.testing.survival import violation
from tests.crashes.scenarios import SCENARIOS, Scene, played, state

_MEMORY = Path("/dev/shm")  # a real sync of what is simulated would only take time


@dataclass(slots=True)
class Tally:
    """What came of a scenario. failures: a line each."""

    scenario: str
    operations: int = 0
    states: int = 0
    failures: list[str] = field(default_factory=list)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A directory in memory, where there is one."""
    return tempfile.TemporaryDirectory(prefix="castore-crash-", dir=_MEMORY if _MEMORY.is_dir() else None)


def check(scene: Scene, trace: Trace, cut: Cut, place: Path) -> str | None:
    """What is wrong with what a cut leaves, in a line. place: a free path."""
    place.mkdir()
    put_cut(cut, place)
    try:
        found = violation(place, trace.told(cut.position), scene.states, state(99))
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    shutil.rmtree(place)
    return found and f"{cut.name}: {found}"


def explore(
    name: str, root: Path, kinds: Iterable[str] = KINDS, seeds: Iterable[int] = (0,), most: int = sys.maxsize
) -> Tally:
    """Play a scenario in `root`, and check what every cut leaves; `most` states at most."""
    scene = played(name, root / "scene")
    tally = Tally(name, sum(len(trace.operations) - trace.start for trace in scene.traces))
    for trace, cut in _all_cuts(scene, list(kinds), list(seeds)):
        if tally.states == most:
            break
        tally.states += 1
        if problem := check(scene, trace, cut, root / "cut"):
            tally.failures.append(f"{name}, {problem}")
    return tally


def _all_cuts(scene: Scene, kinds: list[str], seeds: list[int]) -> Iterator[tuple[Trace, Cut]]:
    """The cuts of all traces, seed after seed, so that a bound on their number leaves out none of the moments."""
    for trace in scene.traces:
        yield from ((trace, cut) for cut in cuts(trace, [kind for kind in kinds if kind in ONCE]))
    for seed in seeds:
        for trace in scene.traces:
            chance = [kind for kind in kinds if kind in BY_CHANCE]
            yield from ((trace, cut) for cut in cuts(trace, chance, [seed]))


def _part(name: str, kinds: list[str], seeds: list[int], most: int) -> Tally:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # an index that is made anew says so
    with scratch() as root:
        return explore(name, Path(root), kinds, seeds, most)


def _again(arguments: argparse.Namespace) -> int:
    """One cut once more."""
    with scratch() as root:
        scene = played(arguments.scenario, Path(root) / "scene")
        for trace in scene.traces:
            for cut in cuts(trace, [arguments.kind], [arguments.seed], only=arguments.position):
                print(check(scene, trace, cut, Path(root) / "cut") or f"{cut.name}: sound")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/crash_explore", description=__doc__)
    parser.add_argument("--states", type=int, default=50_000, help="how many to try, about")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="only this one")
    parser.add_argument("--position", type=int, help="with --scenario, --kind: one cut once more")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.position is not None:
        return _again(arguments)
    names = [arguments.scenario] if arguments.scenario else list(SCENARIOS)
    share = -(-arguments.states // (len(names) * arguments.processes))
    tallies = {name: Tally(name) for name in names}
    began = time.monotonic()
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        parts = [
            pool.submit(
                _part,
                name,
                list(KINDS if number == 0 else BY_CHANCE),
                list(range(arguments.seed + number, arguments.seed + share, arguments.processes)),
                share,
            )
            for name in names
            for number in range(arguments.processes)
        ]
        for part in as_completed(parts):
            found = part.result()
            tally = tallies[found.scenario]
            tally.operations = found.operations
            tally.states += found.states
            tally.failures += found.failures
    print(f"{'scenario':24} {'operations':>10} {'states':>8} {'failures':>8}")
    for tally in tallies.values():
        print(f"{tally.scenario:24} {tally.operations:10} {tally.states:8} {len(tally.failures):8}")
    failures = [one for tally in tallies.values() for one in tally.failures]
    states = sum(tally.states for tally in tallies.values())
    print(f"{'all':24} {'':10} {states:8} {len(failures):8}   {time.monotonic() - began:.0f} s")
    for failure in failures[:10]:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
