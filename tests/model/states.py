"""Small states of several dtypes, each known by two numbers: its kind, and what moves a little from seed to seed."""

from __future__ import annotations

import functools
from typing import Any

import torch

KINDS = 4
SEEDS = 6


@functools.cache
def state(kind: int, seed: int) -> dict[str, Any]:
    """A state; nobody may change it. Kind 0 looks like a training run, with an optimizer whose moments fit its weights.

    Chunks of 1024 elements: a weight has two. States of one kind share what is frozen, and so do kinds 0 and 1.
    """
    start = torch.randn(1500, generator=torch.Generator().manual_seed(kind // 2))
    moved = 1e-3 * torch.randn(1500, generator=torch.Generator().manual_seed(100 + seed))
    frozen = torch.arange(1100)
    if kind == 0:
        moments = {"step": torch.tensor(float(seed)), "exp_avg": moved, "exp_avg_sq": moved * moved}
        optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
        return {"model": {"weight": start + moved, "frozen": frozen}, "optimizer": optimizer, "step": seed}
    if kind == 1:
        tied = torch.full((8, 5), float(seed), dtype=torch.float64)
        half = (start[:700] + moved[:700]).bfloat16()
        return {"model": {"weight": start + moved, "half": half}, "frozen": frozen, "tied": [tied, tied]}
    if kind == 2:
        counts = torch.arange(1300, dtype=torch.int64) + (torch.arange(1300) % 7 == seed)
        mask, small = moved[:90] > 0, (100 * moved[:64]).to(torch.int8)
        return {"model": {"counts": counts, "mask": mask, "small": small}, "note": f"seed {seed}", "none": None}
    weight = (start + moved).reshape(30, 50)
    return {"model": {"weight": weight.t(), "empty": weight[:0]}, "optimizer": {"lr": seed / 7}, "tuple": (seed, b"x")}
