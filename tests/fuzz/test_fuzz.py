"""A short run of each fuzzer, the same each time: an error of castore or right data. `tools/fuzz` runs longer."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests import processes
from tests.crashes.explore import scratch
from tests.fuzz import registry
from tests.fuzz.run import Board, Order, child, stored

_SLOW = {"pack": 15, "tree": 50, "index": 12, "pt": 80, "config": 150}  # executions beside the seeds
_MANY = 250


def obey(order: Order, directory: str, said: str) -> None:
    """In a process of its own: carry out an order. What it says goes to a file."""
    os.environ["TMPDIR"] = directory
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    try:
        code = child(order)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


def carried_out(order: Order, directory: Path) -> tuple[int | None, str]:
    """How the process ended, and what it said."""
    said = directory / "said"
    process = processes.start(obey, order, str(directory), str(said))
    process.join(600)
    return process.exitcode, said.read_text(errors="replace") if said.exists() else ""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory where a sync costs nothing."""
    with scratch() as root:
        yield Path(root)


@pytest.fixture
def order(memory: Path) -> Order:
    (memory / "kept").mkdir()
    return Order("", 1, 600.0, _MANY, False, str(memory / "board"), str(memory / "kept"))


@pytest.mark.parametrize("name", registry.NAMES)
def test_mutated_input_gives_an_error_or_right_data(order: Order, memory: Path, name: str) -> None:
    order = replace(order, name=name, most=_SLOW.get(name, _MANY) + len(stored(name)))
    code, said = carried_out(order, memory)
    taken, refused, data = Board(Path(order.board)).read()
    assert code == 0, f"{said[-3000:]}\nof the input {data[:500]!r}"
    assert taken + refused >= min(order.most, 10)
    assert taken > 0, "the valid inputs themselves are refused: nothing is tested"


@pytest.mark.parametrize(
    ("way", "end"), [("raise", 1), ("memory", 1), ("crash", -signal.SIGSEGV), ("hang", -signal.SIGPROF)]
)
def test_a_reader_that_is_not_right_is_found_out(order: Order, memory: Path, way: str, end: int) -> None:
    code, _ = carried_out(replace(order, name=f"selftest-{way}", cpu_s=0.5), memory)
    assert code == end
    assert Board(Path(order.board)).read()[2].startswith(b"bad")
