"""One flipped bit in what a save left: is it found, or are other weights returned without a word?"""

from __future__ import annotations

import os
import random
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.durability import FLIPS, QUICK_FLIPS
from benchmarks.durability.forked import forked
from benchmarks.durability.systems import Castore, Dcp, Safetensors, State, System, TorchSave, same, state_of
from benchmarks.overhead.report import Table

STATE_BYTES, QUICK_BYTES = 1_000_000, 100_000
_LONGEST_S = 20.0  # of a load; then it hangs
_MEMORY_BYTES = 8 << 30  # of a load, beside what is there: a damaged length must not take the machine down
SYSTEMS: tuple[type[System], ...] = (TorchSave, Safetensors, Dcp, Castore)
OUTCOMES = {b"e": "an error", b"w": "wrong data, no error", b"r": "right data", b"d": "the process dies or hangs"}

Files = Mapping[Path, bytes]


def run(bench: Bench) -> Iterator[Table]:
    """For each system, what so many flips came to."""
    flips, nbytes = (QUICK_FLIPS, QUICK_BYTES) if bench.quick else (FLIPS, STATE_BYTES)
    rows = []
    for made in SYSTEMS:
        system = made(state_of(nbytes, 0))
        with bench.folder("flips") as folder:
            for step in (0, 1):
                system.save(folder, state_of(nbytes, step), step)
            files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
            bits = _bits(files, flips)
            found = outcomes(system, folder, files, bits, state_of(nbytes, 1))
        bench.say(f"{system.name}: {dict(found)}")
        size = sum(map(len, files.values())) / 1e6
        rows.append((system.name, (float(flips), *(float(found[name]) for name in OUTCOMES.values()), size)))
    note = (
        f"A state of {nbytes / 1e6:.1f} MB is saved twice. Of all bits of all files that are there then, one is "
        "flipped, chosen evenly, and the newest checkpoint loaded, each time from files that are whole but for that "
        "bit. castore's files include its index, its logs and the commit before."
    )
    yield Table("Flipped bits", note, ("flips", *OUTCOMES.values(), "files, MB"), tuple(rows))


def outcomes(
    system: System, folder: Path, files: Files, bits: Sequence[tuple[Path, int]], expected: State
) -> Counter[str]:
    """What loads come to, each with one bit flipped. A process does them one after another, until one kills it."""
    found: Counter[str] = Counter()
    while (done := found.total()) < len(bits):
        with forked(lambda tell: _try(system, folder, files, bits[done:], expected, tell)) as child:
            while found.total() < len(bits):
                heard = child.hear(_LONGEST_S) or b"d"
                found[OUTCOMES[heard]] += 1
                if heard == b"d":
                    break
    return found


def _try(
    system: System,
    folder: Path,
    files: Files,
    bits: Sequence[tuple[Path, int]],
    expected: State,
    tell: Callable[[bytes], object],
) -> None:
    """Flip and load, telling what came of each."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY_BYTES,) * 2)
    for path, bit in bits:
        _restore(folder, files)
        content = bytearray(files[path])
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            loaded = system.load(folder)
        except Exception:
            tell(b"e")
            continue
        tell(b"r" if same(loaded, expected) else b"w")


def _restore(folder: Path, files: Files) -> None:
    """Put all files below a folder as they were. Directories stay: a store is known by them."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()
    for path, content in files.items():
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def _bits(files: Files, count: int) -> list[tuple[Path, int]]:
    """So many bits of all files, with replacement."""
    rng = random.Random(1)
    paths = list(files)
    chosen = rng.choices(paths, [len(files[path]) for path in paths], k=count)
    return [(path, rng.randrange(8 * len(files[path]))) for path in chosen]
