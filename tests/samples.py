"""States that are the same wherever they are made, so that processes need to tell each other only a number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from castore.store import Store
from castore.testing.states import equal_states

LARGE = (1 << 18) + 100  # float32 elements: more than one chunk, and more than 1 MiB


def state(seed: int, elements: int = 3000) -> dict[str, Any]:
    """A training state: most of it moves a little from seed to seed, some of it never does."""
    start = torch.randn(elements, generator=torch.Generator().manual_seed(0))
    step = torch.randn(elements, generator=torch.Generator().manual_seed(seed))
    tied = torch.arange(40, dtype=torch.float32).reshape(8, 5)
    return {
        "model": {"weight": start + 1e-3 * step, "half": (start[:700] - 1e-2 * step[:700]).bfloat16()},
        "tied": [tied, tied],
        "frozen": torch.arange(900),
        "step": seed,
        "note": f"state {seed}",
    }


def assert_loads(store: Store, history: Mapping[str, int], elements: int = 3000) -> None:
    """Every commit of {id: seed} comes back bit for bit."""
    for commit, seed in history.items():
        assert equal_states(store.load(commit), state(seed, elements)), f"commit {commit} of seed {seed} differs"


def assert_sound(store: Store) -> None:
    """fsck, with all data read, finds nothing."""
    report = store.fsck(read_data=True)
    assert report.ok, report.errors


def packs(store: Store) -> list[Path]:
    """The files in packs/, oldest first."""
    return sorted((store.path / "packs").glob("*/*.pack"), key=lambda path: path.stat().st_mtime_ns)


def incoming(store: Store) -> list[Path]:
    """The files in incoming/."""
    return list((store.path / "incoming").iterdir())


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Flip bits of one byte, in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ mask]))
