"""The durability benchmark tells outcomes apart: what is returned without a word, what is refused, what is unharmed."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.durability import flips, kills
from benchmarks.durability.systems import (
    Castore,
    Dcp,
    Safetensors,
    State,
    System,
    TorchSave,
    TorchSaveNumbered,
    TorchSaveRenamed,
    same,
    state_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")
NBYTES = 80_000


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (TorchSave, "wrong data, no error"),
        (Safetensors, "wrong data, no error"),
        (Dcp, "wrong data, no error"),
        (Castore, "an error"),
    ],
)
def test_a_flipped_bit_of_a_weight(made: type[System], found: str, tmp_path: Path) -> None:
    system, state = made(state_of(NBYTES, 0)), state_of(NBYTES, 1)
    system.save(tmp_path, state, 0)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    largest = max((path for path in files if "index" not in path.parts), key=lambda path: len(files[path]))
    middle = len(files[largest]) // 2 + 3000  # between two tensors containers have headers
    bits = [(largest, 8 * middle + bit) for bit in range(3)]
    assert flips.outcomes(system, tmp_path, files, bits, state) == Counter({found: 3})


def test_a_load_that_ends_its_process_is_counted_and_the_next_ones_are_tried(tmp_path: Path) -> None:
    class Fatal(TorchSave):
        def load(self, folder: Path) -> State:
            os._exit(1)

    system, state = Fatal(state_of(NBYTES, 0)), state_of(NBYTES, 1)
    system.save(tmp_path, state, 0)
    files = {tmp_path / "last.pt": (tmp_path / "last.pt").read_bytes()}
    found = flips.outcomes(system, tmp_path, files, [(tmp_path / "last.pt", 9)] * 2, state)
    assert found == Counter({"the process dies or hangs": 2})


@pytest.mark.parametrize("made", [TorchSaveRenamed, Castore])
def test_what_keeps_the_last_checkpoint_until_the_next_is_whole_has_one_after_a_kill(
    made: type[System], tmp_path: Path
) -> None:
    found, _ = kills.outcomes(made(state_of(NBYTES, 0)), tmp_path, 5, NBYTES)
    assert found.total() == 5 and set(found) <= {"the old state", "the new state"}


def test_a_checkpoint_cut_off_is_an_error_that_leaves_the_older_one(tmp_path: Path) -> None:
    system, old = TorchSaveNumbered(state_of(NBYTES, 0)), state_of(NBYTES, 1)
    system.save(tmp_path, old, 1)
    (tmp_path / "000002.pt").write_bytes((tmp_path / "000001.pt").read_bytes()[:5000])
    with pytest.raises((OSError, RuntimeError)):
        system.load(tmp_path)
    assert same(system.load_older(tmp_path), old)
