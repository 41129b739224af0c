"""Flips bits and cuts files of a small store that has a file of every kind, and checks what castore says of each.

`tools/damage_explore` flips a bit of every byte of every file (`--bits 8`: every bit), cuts each file at a hundred
lengths, and prints a line a file. A file of the index is harmed in a process of its own, which
may die of it. A failure is a line; the exit status is 1 if there is any.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tests.damage.everything import Everything, everything
from tests.damage.harm import Bench, Harm, complaint, outside, sampled

_MOST_CUTS = 100
_MEMORY = Path("/dev/shm")
_DIED = 77


@dataclass(slots=True)
class Tally:
    """What came of the harms of a file. found: by fsck. died: processes that an index killed. failures: a line each."""

    file: str
    flips: int = 0
    cuts: int = 0
    found: int = 0
    outside: Counter[str] = field(default_factory=Counter)
    died: int = 0
    failures: list[str] = field(default_factory=list)


def chosen(store: Everything, file: str, seed: int, bits: int, every: int) -> Iterator[Harm]:
    """Of each byte so many bits, in packs and index of every so many bytes, in the index of those that say something;
    and up to `_MOST_CUTS` cuts."""
    chance = random.Random(f"{seed} {file}")
    content = (store.path / file).read_bytes()
    is_large = file.startswith(("packs/", "index/"))
    for at, byte in enumerate(content):
        if (byte or not file.startswith("index/")) and not (is_large and at % every):
            yield from (Harm(file, bit=8 * at + bit) for bit in sorted(chance.sample(range(8), bits)))
    yield from sampled([Harm(file, size=cut) for cut in range(len(content))], _MOST_CUTS, seed)


def explore(store: Everything, file: str, harms: Iterable[Harm], spare: Path) -> Tally:
    """Do each harm to a file of a store. spare: a free path."""
    tally = Tally(file)
    bench = Bench(store, spare)
    for harm in harms:
        tally.flips += harm.bit is not None
        tally.cuts += harm.size is not None
        if file.startswith("index/"):
            _apart(bench, harm, tally)
            continue
        seen = bench.see(harm)
        tally.found += seen.found
        if not seen.found and (why := outside(harm, store)):
            tally.outside[why] += 1
        if (problem := complaint(harm, seen, store)) is not None:
            tally.failures.append(problem)
    shutil.rmtree(spare)
    return tally


def _apart(bench: Bench, harm: Harm, tally: Tally) -> None:
    """One harm of the index in a process of its own."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            seen = bench.see(harm)
            code = 2 if complaint(harm, seen, bench.store) else 3 if seen.found else 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    bench.mend_all()
    if os.WIFSIGNALED(status):
        tally.died += 1
        return
    code = os.WEXITSTATUS(status)
    tally.found += code == 3
    if code in (1, 2):
        tally.failures.append(f"{harm}: {'it does not load' if code == 2 else 'an error that is none of castore'}")


def _part(file: int, seed: int, bits: int, every: int, most: int | None) -> Tally:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # an index that is made anew says so
    with tempfile.TemporaryDirectory(prefix="castore-damage-", dir=_MEMORY if _MEMORY.is_dir() else None) as root:
        store = everything(Path(root) / "store")
        name = names(store)[file]
        harms = list(chosen(store, name, seed, bits, every))
        return explore(store, name, harms if most is None else sampled(harms, most, seed), Path(root) / "spare")


def names(store: Everything) -> list[str]:
    """All files that are harmed, the smallest first."""
    return sorted(store.files(), key=lambda name: ((store.path / name).stat().st_size, name.split("/")[0]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/damage_explore", description=__doc__)
    parser.add_argument("--bits", type=int, default=1, choices=range(1, 9), help="of each byte")
    parser.add_argument("--every", type=int, default=1, help="of packs and index, one of so many bytes")
    parser.add_argument("--most", type=int, help="so many harms of each file, and no more")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without-index", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="castore-damage-") as root:
        files = names(everything(Path(root) / "store"))
    wanted = [n for n, name in enumerate(files) if not (arguments.without_index and name.startswith("index/"))]
    began = time.monotonic()
    tallies = []
    print(f"{'file':24} {'flips':>8} {'cuts':>6} {'found':>8} {'outside':>8} {'died':>5} {'failures':>8}", flush=True)
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        chosen_by = (arguments.seed, arguments.bits, arguments.every, arguments.most)
        parts = [pool.submit(_part, number, *chosen_by) for number in wanted]
        for part in parts:
            tallies.append(part.result())
            _print(tallies[-1])
    whole = Tally("all")
    for one in tallies:
        whole.flips += one.flips
        whole.cuts += one.cuts
        whole.found += one.found
        whole.outside += one.outside
        whole.died += one.died
        whole.failures += one.failures
    _print(whole)
    print(f"{time.monotonic() - began:.0f} s", *(f"outside: {why}: {n}" for why, n in whole.outside.items()), sep="\n")
    print(*whole.failures[:20], sep="\n")
    return 1 if whole.failures else 0


def _print(one: Tally) -> None:
    left = sum(one.outside.values())
    print(
        f"{one.file[:24]:24} {one.flips:8} {one.cuts:6} {one.found:8} {left:8} {one.died:5} {len(one.failures):8}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
