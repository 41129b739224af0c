"""A small real training run, for other processes: dropout, shuffled data, accumulation, a schedule of the rate.

Writes each step's loss in hex to a file, one line a step, and at the end a digest of weights, optimizer and generators;
to another file what castore warns of.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import castore


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Items that depend on their number, with noise drawn where they are loaded."""

    def __init__(self, noise: bool) -> None:
        self._noise = noise
        self._inputs = torch.randn(50, 12, generator=torch.Generator().manual_seed(3))

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        item = self._inputs[index]
        noise = 0.1 * torch.rand(12) if self._noise else torch.zeros(12)
        return item + noise, item.sum().reshape(1)


def loader_of(kind: str, workers: int, noise: bool) -> Any:
    data = Noisy(noise)
    # As on Linux by default: what the tests' fork server starts would have its workers load torch anew.
    how: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "fork" if workers else None}
    if kind == "stateful":
        from torchdata.stateful_dataloader import StatefulDataLoader

        return StatefulDataLoader(data, batch_size=4, shuffle=True, **how)
    if kind == "sampler":
        sampler = castore.ResumableSampler(data, seed=5, replay=noise and workers > 0)
        return DataLoader(data, batch_size=4, sampler=sampler, **how)
    return DataLoader(data, batch_size=4, shuffle=True, **how)


def digest(objects: dict[str, Any]) -> str:
    """Of weights, buffers, optimizer and all generators."""
    found = hashlib.sha256()
    for name, tensor in sorted(objects["model"].state_dict().items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    state = objects["optimizer"].state_dict()
    for number, slot in sorted(state["state"].items()):
        for name, value in sorted(slot.items()):
            found.update(f"{number} {name}".encode() + np.asarray(value).tobytes())
    found.update(repr([group["lr"] for group in state["param_groups"]]).encode())
    found.update(torch.get_rng_state().numpy().tobytes())
    found.update(repr(random.getstate()).encode())
    found.update(np.random.get_state(legacy=False)["state"]["key"].tobytes())
    return found.hexdigest()


def main(*argv: str) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--loader", default="stateful")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--micro", type=int, default=1, help="backward passes a step of the optimizer")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--stop-after", type=int, help="end without a word after this step")
    parser.add_argument("--terminate-at", type=int, help="send SIGTERM to itself during this step")
    parser.add_argument("--raise-at", type=int)
    parser.add_argument("--worker", default="thread")
    args = parser.parse_args(argv)

    torch.set_num_threads(1)
    torch.manual_seed(1)
    random.seed(2)
    np.random.seed(3)
    model = nn.Sequential(nn.Linear(12, 32), nn.BatchNorm1d(32), nn.Dropout(0.3), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    loader = loader_of(args.loader, args.workers, args.noise)
    progress = {"epoch": 0}
    store = castore.open(args.store, create=True)
    policy = castore.Policy(every_steps=args.every, max_overhead=None, when_busy="wait", on_exception=True)
    objects = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "progress": progress}
    with (
        castore.Checkpointer(store, policy=policy, worker=args.worker, loader=loader, report=False, **objects) as ckpt,
        args.out.open("a") as out,
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", castore.InexactResumeWarning)
            step = ckpt.resume()
        texts = [f"{one.message}\n" for one in caught if one.category is castore.InexactResumeWarning]
        args.out.with_suffix(".warnings").write_text("".join(texts))
        while step < args.steps:
            for inputs, targets in loader:
                loss = nn.functional.mse_loss(model(inputs), targets) + 0.01 * random.random() * np.random.random()
                loss.backward()
                if (step + 1) % args.micro == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    scheduler.step()
                if step == args.terminate_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                if step == args.raise_at:
                    raise ValueError("the loop failed")
                out.write(f"{step} {loss.item().hex()}\n")
                out.flush()
                ckpt.step(step, metrics={"loss": loss.item()})
                if step == args.stop_after:
                    ckpt.close()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises when a loader's child dies
                    for child in multiprocessing.active_children():
                        child.kill()  # a loader's: they would see only after seconds that nobody is left
                    os._exit(0)
                step += 1
                if step == args.steps:
                    break
            else:
                progress["epoch"] += 1
        out.write(f"end {progress['epoch']} {digest(objects)}\n")
