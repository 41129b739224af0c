"""SIGKILL at a random moment of a save: what a program finds that starts again."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.durability import KILLS, QUICK_KILLS
from benchmarks.durability.forked import forked
from benchmarks.durability.systems import SYSTEMS, State, System, same, state_of
from benchmarks.overhead.report import Table
from benchmarks.results import median

STATE_BYTES, QUICK_BYTES = 24_000_000, 800_000
_SAVES_A_FOLDER = 20  # then a new one: what numbered checkpoints and a store hold would grow
OUTCOMES = (
    "the old state",
    "the new state",
    "an error, older one kept",
    "an error, nothing left",
    "wrong data, no error",
)


def run(bench: Bench) -> Iterator[Table]:
    """For each system, how often it left what."""
    kills, nbytes = (QUICK_KILLS, QUICK_BYTES) if bench.quick else (KILLS, STATE_BYTES)
    rows = []
    for made in SYSTEMS:
        system = made(state_of(nbytes, 0))
        with bench.folder("kills") as folder:
            found, save_s = outcomes(system, folder, kills, nbytes)
        bench.say(f"{system.name}: a save takes {save_s:.3f} s; {dict(found)}")
        rows.append((system.name, (float(kills), *(float(found[name]) for name in OUTCOMES), save_s)))
    note = (
        f"A process saves a state of {nbytes / 1e6:.1f} MB; another one kills it by SIGKILL at a random moment before "
        "the save has returned. Counted: what is found by whoever loads the newest checkpoint then. The machine stays "
        "up, so that nothing is lost which the kernel had been given."
    )
    yield Table("Kills", note, ("kills", *OUTCOMES, "a save, s"), tuple(rows))


def outcomes(system: System, root: Path, kills: int, nbytes: int) -> tuple[Counter[str], float]:
    """What so many kills left, and how long a save takes that nobody kills."""
    rng = random.Random(1)
    found: Counter[str] = Counter()
    lasts_s = median(_begin_again(system, root / "warm", nbytes, 1)[1] for _ in range(3))
    old, _ = _begin_again(system, root / "saved", nbytes, 1)
    for step in itertools.count(2):
        if found.total() == kills:
            break
        new = state_of(nbytes, step)
        had_returned = _killed(system, root / "saved", new, step, rng.uniform(0, 1.2 * lasts_s))
        outcome = _outcome(system, root / "saved", old, new)
        if not had_returned:
            found[outcome] += 1
        elif outcome != "the new state":
            raise RuntimeError(f"{system.name}: a save had returned, and what is found then is {outcome}")
        if outcome not in OUTCOMES[:2] or step % _SAVES_A_FOLDER == 0:
            old, _ = _begin_again(system, root / "saved", nbytes, step)
        elif outcome == "the new state":
            old = new
    return found, lasts_s


def _begin_again(system: System, folder: Path, nbytes: int, step: int) -> tuple[State, float]:
    """A new folder, in which the steps up to this one are saved; the state of this one, and how long its save took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    system.save(folder, state_of(nbytes, step - 1), step - 1)
    state = state_of(nbytes, step)
    began = time.perf_counter()
    system.save(folder, state, step)
    return state, time.perf_counter() - began


def _killed(system: System, folder: Path, state: State, step: int, after_s: float) -> bool:
    """Save in a process that is killed so many seconds after it began; whether the save had returned by then."""

    def work(tell: Callable[[bytes], object]) -> None:
        tell(b"b")
        system.save(folder, state, step)
        tell(b"s")
        signal.pause()

    with forked(work) as child:
        child.hear(60)
        time.sleep(after_s)
        child.kill()
        return child.hear(60) == b"s"


def _outcome(system: System, folder: Path, old: State, new: State) -> str:
    try:
        loaded = system.load(folder)
    except Exception:
        return "an error, older one kept" if _has_older(system, folder, old) else "an error, nothing left"
    if same(loaded, new):
        return "the new state"
    return "the old state" if same(loaded, old) else "wrong data, no error"


def _has_older(system: System, folder: Path, old: State) -> bool:
    try:
        return same(system.load_older(folder), old)
    except Exception:
        return False
