"""A loop whose steps can be run again, to see that a commit leads to the losses that were recorded after it.

python docs/examples/replay.py /tmp/run
cd docs/examples
castore -C /tmp/run verify main~5 --replay replay:replay --steps 5
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import castore

STEPS = 30
CONFIG = {"width": 64, "lr": 0.005, "momentum": 0.9, "batch_size": 16}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(32, CONFIG["width"]), nn.ReLU(), nn.Dropout(0.1), nn.Linear(CONFIG["width"], 1))
    return model, torch.optim.SGD(model.parameters(), lr=CONFIG["lr"], momentum=CONFIG["momentum"])


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    inputs = torch.randn(CONFIG["batch_size"], 32)
    loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def replay(restore: Any, steps: int) -> Iterator[tuple[int, float]]:
    """What `castore verify --replay replay:replay` calls, in a process of its own."""
    model, optimizer = build()
    start = restore(model=model, optimizer=optimizer)
    for step in range(start, start + steps):
        yield step, train_step(model, optimizer)


def main(directory: Path) -> None:
    torch.manual_seed(0)
    model, optimizer = build()
    run = castore.Run(config=CONFIG, data="synthetic v1", notes="targets are sums of the inputs")
    policy = castore.Policy(every_steps=1, max_overhead=None, when_busy="wait")
    with (
        castore.open(directory, create=True) as store,
        castore.Checkpointer(store, run=run, policy=policy, model=model, optimizer=optimizer) as ckpt,
    ):
        for step in range(ckpt.resume(), STEPS):
            ckpt.step(step, metrics={"loss": train_step(model, optimizer)})


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs"))
