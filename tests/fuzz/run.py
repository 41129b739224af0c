"""`python -m tests.fuzz.run [TARGET ...] --seconds N`: feeds mutations of valid inputs to what reads them.

Each target runs in a child process with bounds on its memory and on the time of each execution. An input that makes the
child end, or raise what no reader may raise, is written to a file, and the child is started again. Inputs that reach
lines of castore which none before reached are kept, and mutated in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import CodeType, FrameType
from typing import Any

import castore
from castore.errors import CastoreError
from tests.fuzz import registry
from tests.fuzz.target import MIB, Target

FOUND = Path(__file__).with_name("found")
ROOT = Path(__file__).parents[2]
_SOURCES = str(Path(castore.__file__).parent)
_WALL_S = 120
_INPUT_BYTES = 4 * MIB
_WATCHED_STEPS = 5000  # lines of one execution
_KEPT_BYTES = 4096
# Targets whose inputs say the same everywhere. Packs hold what recorded them, an index the names of its packs, and an
# input of a codec is but the seed of a payload.
_KEPT = [name for name in registry.NAMES if name not in ("pack", "index") and not name.startswith("codec-")]
_MOST_DEFECTS = 10  # of a target; then it is left


class Coverage:
    """Which lines of castore were run. Functions all of whose lines were are not watched any more, and loops not for
    ever: watching costs more than what is watched."""

    def __init__(self) -> None:
        self._left: dict[CodeType, set[int]] = {}
        self._steps = 0
        self.new = 0

    def __enter__(self) -> None:
        self.new, self._steps = 0, _WATCHED_STEPS
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        if self._steps < 0:
            return None
        left = self._left.get(code)
        if left is None:
            own = code.co_filename.startswith(_SOURCES)
            left = self._left[code] = {line for *_, line in code.co_lines() if line} if own else set()
        return self._line if left else None

    def _line(self, frame: FrameType, event: str, _: Any) -> Any:
        left = self._left[frame.f_code]
        self._steps -= 1
        if frame.f_lineno in left:
            left.discard(frame.f_lineno)
            self.new += 1
        return self._line if left and self._steps > 0 else None


def stored(name: str) -> list[bytes]:
    """The inputs of a target that were found before: new lines, and defects that are mended."""
    return [path.read_bytes() for path in sorted((FOUND / name).glob("*"))]


@dataclass(frozen=True)
class Order:
    """What a child is to do.

    most: executions. watch: go by which lines are run. board: the file of a `Board`. kept: a directory for inputs that
    reach new lines. cpu_s: processor time of one execution.
    """

    name: str
    seed: int
    seconds: float
    most: int
    watch: bool
    board: str
    kept: str
    cpu_s: float = 10.0


class Board:
    """Memory that parent and child share: the counts, and the input in hand, whatever becomes of the child."""

    _HEAD = struct.Struct("<QQQ")  # taken, refused, bytes of the input
    SIZE = _HEAD.size + _INPUT_BYTES

    def __init__(self, path: Path) -> None:
        path.touch()
        with path.open("r+b") as file:
            file.truncate(self.SIZE)
            self._map = mmap.mmap(file.fileno(), self.SIZE)

    def show(self, taken: int, refused: int, data: bytes) -> None:
        self._map[: self._HEAD.size] = self._HEAD.pack(taken, refused, len(data))
        self._map[self._HEAD.size : self._HEAD.size + len(data)] = data

    def read(self) -> tuple[int, int, bytes]:
        taken, refused, size = self._HEAD.unpack_from(self._map)
        return taken, refused, self._map[self._HEAD.size : self._HEAD.size + size]


def child(order: Order) -> int:
    """Execute one target until the time is over. Returns the exit code."""
    target = registry.by_name(order.name)
    board, coverage, rng = Board(Path(order.board)), Coverage(), Random(order.seed)
    taken = refused = number = peak = 0
    pool: list[bytes] = []
    first = [*target.seeds(), *stored(order.name)]
    deadline = time.monotonic() + order.seconds
    while number < len(first) or (time.monotonic() < deadline and number < order.most):
        is_seed = number < len(first)
        data = first[number] if is_seed else target.mutated(rng.choice(pool), rng)
        if number == len(first):  # all that is loaded on first use is loaded
            peak = _bound(target)
        number += 1
        if len(data) > _INPUT_BYTES:
            continue
        board.show(taken, refused, data)
        signal.setitimer(signal.ITIMER_PROF, 0 if is_seed else order.cpu_s)  # SIGPROF ends the process
        signal.alarm(_WALL_S)
        try:
            with coverage if order.watch else contextlib.nullcontext():
                was_taken = target.run(data)
        except CastoreError as error:
            assert "\n" not in str(error), f"an error of several lines: {error!r}"
            was_taken = False
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        taken, refused = taken + was_taken, refused + (not was_taken)
        assert not peak or _peak() <= peak, f"took more than {target.growth_bytes} bytes"
        if is_seed or coverage.new:
            pool.append(data)
            if not is_seed and len(data) <= _KEPT_BYTES:
                (Path(order.kept) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    board.show(taken, refused, b"")
    return 0


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _bound(target: Target) -> int:
    """Let this process take so much more address space; returns the peak of resident memory that it may reach."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + target.growth_bytes + target.mapped_bytes + 256 * MIB
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    return _peak() + target.growth_bytes


@dataclass
class Result:
    """Of one target. kept: where inputs that reached new lines are. defects: what went wrong, by the input's file."""

    kept: Path
    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    defects: dict[str, str] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        return self.taken + self.refused


def fuzz(name: str, seed: int, seconds: float, out: Path, most: int = 1 << 60, watch: bool = True) -> Result:
    """Run a target in child processes for so long, or so many executions. What ends one is written below `out`.

    watch: go by coverage, and with the bounds of arrays checked in compiled code.
    """
    result, started = Result(out / f"{name}.kept"), time.monotonic()
    result.kept.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.board"
    checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str((out / "numba-bounds-checked").resolve())}
    memory = Path("/dev/shm")  # where a sync costs nothing
    scratch = tempfile.TemporaryDirectory(prefix="castore-fuzz-", dir=memory if memory.is_dir() else None)
    environment = {**os.environ, "TMPDIR": scratch.name, **(checked if watch else {})}
    while (left := seconds - (time.monotonic() - started)) > 0 and len(result.defects) < _MOST_DEFECTS:
        order = Order(name, seed, left, most, watch, str(path), str(result.kept))
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.run", "--child", json.dumps(asdict(order))],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        taken, refused, data = Board(path).read()
        result.taken, result.refused, seed = result.taken + taken, result.refused + refused, seed + 1
        if done.returncode == 0:
            break
        file = out / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
        file.write_bytes(data)
        result.defects[str(file)] = f"exit {done.returncode}: {done.stderr[-1500:]}"
    path.unlink()
    scratch.cleanup()
    result.seconds = time.monotonic() - started
    return result


def replay(name: str, path: Path) -> None:
    """Execute one input in this process; raises what it raises."""
    print("taken" if registry.by_name(name).run(path.read_bytes()) else "refused")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all by default: {', '.join(registry.NAMES)}")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="where inputs that find something go")
    parser.add_argument("--keep", action="store_true", help="add inputs that reach new lines to tests/fuzz/found")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="execute one input of TARGET, here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        return child(Order(**json.loads(args.child)))
    if unknown := set(args.targets) - set(registry.NAMES):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are: {', '.join(registry.NAMES)}")
    if args.replay:
        replay(args.targets[0], args.replay)
        return 0
    failed = False
    for name in args.targets or registry.NAMES:
        result = fuzz(name, args.seed, args.seconds, args.out)
        kept = [one for one in result.kept.iterdir() if args.keep and name in _KEPT]
        counts = f"{result.executions:>9} executions  {result.taken:>9} taken"
        print(f"{name:<20} {counts}  {len(result.defects)} defects  {result.seconds:6.1f} s", flush=True)
        for path, what in result.defects.items():
            print(f"  {path}\n    " + what.strip().replace("\n", "\n    "))
        failed = failed or bool(result.defects)
        for one in kept:
            (FOUND / name).mkdir(parents=True, exist_ok=True)
            (FOUND / name / one.name).write_bytes(one.read_bytes())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
