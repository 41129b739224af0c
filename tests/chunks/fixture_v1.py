"""A store of before there was a version 2 of packs, `store_v1`, and what lies in it.

It was made by castore as of 9950e0c, with `chunk_elements` of 2048: `state` of steps 0 to 2 on main, and on `gone` a
state whose smaller part `kept` holds too. In its packs: chunks alone and in chains of deltas of codec 4, trees, a chunk
list and commits.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

PACKS, RECORDS, DELTAS = 5, 23, 6


def copy_of_the_store(target: Path) -> Path:
    """With the directory that git does not keep."""
    shutil.copytree(Path(__file__).with_name("store_v1"), target)
    (target / "incoming").mkdir()
    return target


def state(step: int) -> dict[str, object]:
    """Few distinct bytes, so that it packs small; every step moves a few values."""

    def moved(count: int) -> torch.Tensor:
        values = ((torch.arange(count) * 7919) % 251 + 1).to(torch.float32)
        values[(torch.arange(count) % 97) < step] += 1
        return values

    return {
        "w": moved(1500) / 64,
        "half": (moved(2048) / 64).to(torch.bfloat16),
        "count": torch.arange(600, dtype=torch.int64) * 1001 + step,
        "zeros": torch.zeros(300 * 2048, dtype=torch.uint8),
        "step": step,
    }


def noise() -> torch.Tensor:
    return ((torch.arange(700) * 2654435761) % (1 << 31)).to(torch.int32)


KEPT = noise()[:200] // 3
