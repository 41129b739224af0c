"""One of two processes that train together, save, load, and compare. Started by torch.distributed.run."""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

import castore
from castore.integrations.accelerate import load_state, save_state


def main(directory: Path) -> None:
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(accelerator.process_index)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    loader = DataLoader(TensorDataset(x), batch_size=2, shuffle=True)
    model, optimizer, scheduler, loader = accelerator.prepare(model, optimizer, scheduler, loader)

    def epoch() -> list[float]:
        losses = []
        for (batch,) in loader:
            loss = model(batch).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    with castore.open(directory / "store", create=True) as store:
        epoch()
        commit = save_state(accelerator, store, step=4)
        after = epoch()
        resumed = load_state(accelerator, store)
        assert resumed is not None and resumed.commit.id == commit.id
        assert epoch() == after, "the epoch after the commit is not the same again"
        try:
            save_state(accelerator, store, step=-1)
        except castore.UsageError:  # raised where the commit is made, and heard of on both
            (directory / f"done-{accelerator.process_index}").touch()
    accelerator.end_training()


if __name__ == "__main__":
    faulthandler.enable()
    main(Path(sys.argv[1]))
    # Without Python's teardown: it aborted once in some hundred runs ("terminate called without an active exception"),
    # probably for a thread of gloo that was ended as it asked for the GIL. All is said and done by now.
    os._exit(0)
