"""Cuts the power in scenarios, at every operation, and checks each store that this could leave.

`tools/crash_explore --states 50000` tries so many states, over two processes, and prints a line a scenario. A failure
names the scenario, and what `--scenario NAME --position N --kind K --seed S` takes to meet it again. `--refusals` lets
the disk refuse every operation with every error instead, `--kills N` kills N processes at work, `--model N` holds the
store N times against the model of its history in `tests/model`, 75 steps each time.
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

import castore
from castore.testing.power_cuts import BY_CHANCE, KINDS, Cut, Trace, cuts, put_cut
from castore.testing.survival import violation
from tests.crashes.kills import Toll, kill
from tests.crashes.refusals import REFUSED, refusals
from tests.crashes.scenarios import SCENARIOS, Scene, played, state

KILLS_A_STORE = 200  # more make its history long, and the check after them
_SEEDS = 2000  # at most: a scenario has only so many outcomes
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
        if scene.is_damaged:
            with castore.open(place) as store:
                store.fsck(repair=True)
        found = violation(place, trace.told(cut.position), scene.states, state(99))
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    shutil.rmtree(place)
    return found and f"{cut.name}: {found}"


def explore(name: str, root: Path, kinds: Iterable[str] = KINDS, most: int | None = None) -> Tally:
    """Play a scenario in `root`, and check what every cut leaves: once where chance decides, or (most) with so many
    seeds as give so many stores, if there are so many."""
    scene = played(name, root / "scene")
    tally = Tally(name, sum(len(trace.operations) - trace.start for trace in scene.traces))
    for trace, cut in _all_cuts(scene, list(kinds), 1 if most is None else _SEEDS):
        if tally.states == most:
            break
        tally.states += 1
        if problem := check(scene, trace, cut, root / "cut"):
            tally.failures.append(f"{name}, {problem}")
    return tally


def _all_cuts(scene: Scene, kinds: list[str], seeds: int) -> Iterator[tuple[Trace, Cut]]:
    """The different cuts of all traces, seed after seed, so that a bound on their number leaves out no moment."""
    seen: list[set[bytes]] = [set() for _ in scene.traces]
    for seed in range(seeds):
        chosen = [kind for kind in kinds if seed == 0 or kind in BY_CHANCE]
        for trace, seen_of_it in zip(scene.traces, seen, strict=True):
            yield from ((trace, cut) for cut in cuts(trace, chosen, [seed], seen=seen_of_it))


def _part(name: str, most: int) -> Tally:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # an index that is made anew says so
    with scratch() as root:
        return explore(name, Path(root), most=most)


def _refused(name: str) -> Tally:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with scratch() as root:
        found = list(refusals(name, Path(root), each=True))
    return Tally(name, 0, len(found), [problem for problem in found if problem])


def _modelled(examples: int, processes: int, seed: int) -> int:
    """Run the model, a hundred examples a seed."""
    from tests.model.runs import tried  # which is built on this module

    began = time.monotonic()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        sizes = [min(100, examples - first) for first in range(0, examples, 100)]
        found = list(pool.map(tried, range(seed, seed + len(sizes)), sizes))
    failures = [text for _, text in found if text]
    steps, seconds = sum(steps for steps, _ in found), time.monotonic() - began
    print(f"{examples} examples, {steps} steps, {len(failures)} failures, {seconds:.0f} s", *failures[:3], sep="\n")
    return 1 if failures else 0


def _again(arguments: argparse.Namespace) -> int:
    """One cut once more."""
    with scratch() as root:
        scene = played(arguments.scenario, Path(root) / "scene")
        for trace in scene.traces:
            for cut in cuts(trace, [arguments.kind], [arguments.seed], only=arguments.position):
                print(check(scene, trace, cut, Path(root) / "cut") or f"{cut.name}: sound")
    return 0


def _killed(kills: int, at_once: int, seed: int) -> int:
    """Kill so many processes, on a new store after every few hundred; the exit status."""
    toll, began = Toll(), time.monotonic()
    while toll.kills < kills and not toll.problems:
        with scratch() as root:
            toll.add(kill(Path(root), min(KILLS_A_STORE, kills - toll.kills), at_once, seed + toll.kills))
        struck = ", ".join(f"{number} in {what}" for what, number in toll.struck.most_common())
        print(f"{toll.kills} kills ({struck}), {toll.acknowledged} commits acknowledged", flush=True)
    print(f"{len(toll.problems)} failures, {time.monotonic() - began:.0f} s", *toll.problems[:10], sep="\n")
    return 1 if toll.problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/crash_explore", description=__doc__)
    parser.add_argument("--states", type=int, default=50_000, help="how many to try, about")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), help="only this one")
    parser.add_argument("--position", type=int, help="with --scenario, --kind: one cut once more")
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--refusals", action="store_true", help="of every operation, instead of cuts")
    parser.add_argument("--kills", type=int, help="kill so many processes, instead of cuts")
    parser.add_argument("--model", type=int, help="run the model of the store so many times, instead of cuts")
    arguments = parser.parse_args()
    if arguments.position is not None:
        return _again(arguments)
    if arguments.model is not None:
        return _modelled(arguments.model, arguments.processes, arguments.seed)
    if arguments.kills is not None:
        return _killed(arguments.kills, arguments.processes, arguments.seed)
    names = [arguments.scenario] if arguments.scenario else list(SCENARIOS)
    tallies = {name: Tally(name) for name in names}
    began = time.monotonic()
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        if arguments.refusals:
            parts = [pool.submit(_refused, name) for name in names if name in REFUSED]
        else:
            share = -(-arguments.states // len(names))
            parts = [pool.submit(_part, name, share) for name in names]
        for part in as_completed(parts):
            found = part.result()
            tally = tallies[found.scenario]
            tally.operations = found.operations
            tally.states += found.states
            tally.failures += found.failures
            print(f"{found.scenario}: {found.states}, {len(found.failures)} failures", flush=True)
    return _told(list(tallies.values()), time.monotonic() - began)


def _told(tallies: list[Tally], seconds: float) -> int:
    """Print the table and the first failures; the exit status."""
    print(f"{'scenario':24} {'operations':>10} {'states':>8} {'failures':>8}")
    for tally in tallies:
        print(f"{tally.scenario:24} {tally.operations:10} {tally.states:8} {len(tally.failures):8}")
    failures = [one for tally in tallies for one in tally.failures]
    states = sum(tally.states for tally in tallies)
    print(f"{'all':24} {'':10} {states:8} {len(failures):8}   {seconds:.0f} s")
    for failure in failures[:10]:
        print(failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
