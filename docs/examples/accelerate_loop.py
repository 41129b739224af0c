"""A training loop with Accelerate and a castore store: interrupted within an epoch, and continued exactly there.

python docs/examples/accelerate_loop.py [DIRECTORY]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from torch.utils.data import DataLoader, TensorDataset

import castore
from castore.integrations.accelerate import load_state, save_state


def train(store: castore.Store, until: int) -> float:
    """Train from wherever the store is up to a step; returns the last loss."""
    torch.manual_seed(0)
    config = DataLoaderConfiguration(use_stateful_dataloader=True, use_seedable_sampler=True)
    accelerator = Accelerator(cpu=True, dataloader_config=config)
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Dropout(0.2), torch.nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    resumed = load_state(accelerator, store)  # None: a fresh start
    step, loss = (resumed.commit.step if resumed else 0), torch.zeros(())
    while step < until:
        for inputs, targets in loader:
            if resumed:
                resumed.restore_rng()  # the loader's iterator drew from the generators when it was made just now
                resumed = None
            loss = (model(inputs) - targets).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 5 == 0:
                save_state(accelerator, store, step=step, metrics={"loss": loss.item()})
            if step == until:
                break
    return loss.item()


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    with castore.open(directory / "whole", create=True) as store:
        whole = train(store, 20)
    with castore.open(directory, create=True) as store:
        train(store, 12)
        rest = train(store, 20)
        for commit in store.log("main"):
            print(commit.id[:12], commit.step, dict(commit.metrics))
    print(f"loss at step 20: {whole!r} in one go, {rest!r} interrupted at 12: {'the same' if whole == rest else 'NO'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".accelerate_loop"))
