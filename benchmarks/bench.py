"""What every benchmark gets: where it may write, how often it repeats, and progress."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trajectories import Trajectory, trajectory


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and how to run.

    cache: where trajectories stay. scratch: a folder on the same disk, for stores. rounds: samples of a median.
    quick: toy sizes, to see that it works. device: where states are that are trained meanwhile, "cpu" or "cuda".
    """

    cache: Path
    scratch: Path
    rounds: int
    quick: bool
    device: str = "cpu"

    def trajectory(self, kind: str) -> Trajectory:
        return trajectory(kind, self.cache, self.quick)

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """An empty folder in scratch, gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def say(self, line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    def say_values(self, label: str, values: Mapping[str, float]) -> None:
        self.say(f"{label}: {', '.join(f'{name} {value:.3f}' for name, value in values.items())}")


def seconds_of(action: Callable[[], object], settle: bool = False) -> float:
    """Wall time of `action`. settle: sync the disk first, so that nobody pays for what another one left unwritten."""
    if settle:
        os.sync()
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def warm(folder: Path) -> None:
    """Read every file below `folder`, so that it is in the page cache."""
    for path in _files(folder):
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def cool(folder: Path) -> None:
    """Drop every file below `folder` from the page cache."""
    os.sync()
    for path in _files(folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def stored_bytes(folder: Path, derived: tuple[str, ...] = ()) -> int:
    """Bytes of the files below `folder`, holes not counted, without the folders named in `derived`."""
    total = 0
    for path in _files(folder):
        if not set(derived).intersection(path.relative_to(folder).parts):
            status = path.stat()
            total += min(status.st_size, status.st_blocks * 512)
    return total


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
