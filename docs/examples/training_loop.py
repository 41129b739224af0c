"""A plain PyTorch loop with castore: stopped half way, continued, and bit for bit the run that was never stopped.

python docs/examples/training_loop.py [DIRECTORY]: a new one for the two stores; without it they are thrown away.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import castore

STEPS, STOP = 120, 70
# So short a run commits at fixed steps and leaves none out. A real one leaves `policy` out: castore measures then what
# commits cost, and makes them as often as 3.5% of the time allows.
POLICY = castore.Policy(every_steps=20, max_overhead=None, when_busy="wait")


def train(store: castore.Store, until: int, seed: int) -> tuple[dict[int, float], nn.Module]:
    """Train from wherever the store is until a step; returns the losses by step, and the model."""
    torch.manual_seed(seed)  # of the first weights and of dropout; a run that is continued forgets it
    model = nn.Sequential(nn.Linear(16, 128), nn.GELU(), nn.Dropout(0.2), nn.Linear(128, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    x = torch.randn(1000, 16, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, x.square().sum(1, keepdim=True))
    loader = DataLoader(data, batch_size=32, sampler=castore.ResumableSampler(data, seed=1))

    losses = {}
    objects = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
    with castore.Checkpointer(store, policy=POLICY, report=print, **objects) as ckpt:
        step = ckpt.resume()  # 0 in an empty store
        while step < until:
            for inputs, targets in loader:  # of 32 batches; a resumed epoch begins with what is left of it
                loss = nn.functional.mse_loss(model(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                losses[step] = loss.item()
                ckpt.step(step, metrics={"loss": loss.item()})
                step += 1
                if step == until:
                    break
    return losses, model


def main(directory: Path) -> None:
    torch.set_num_threads(1)  # threads of so small a model wait for one another more than they work
    print(f"{STEPS} steps in one go")
    with castore.open(directory / "whole", create=True) as store:
        whole, model = train(store, STEPS, seed=0)
    with castore.open(directory, create=True) as store:
        print(f"stopped after {STOP} steps")
        train(store, STOP, seed=0)
        print("continued")
        rest, resumed = train(store, STEPS, seed=42)

    first = min(rest)
    losses = [whole[step] for step in rest] == list(rest.values())
    weights = all(map(torch.equal, model.state_dict().values(), resumed.state_dict().values()))
    print(f"losses of steps {first} to {STEPS - 1}: {'bit for bit the same' if losses else 'DIFFERENT'}")
    print(f"weights at the end: {'bit for bit the same' if weights else 'DIFFERENT'}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as directory:
            main(Path(directory))
