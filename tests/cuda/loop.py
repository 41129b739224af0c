"""A small real training run on a GPU, for other processes: mixed precision with a scaler, dropout, a schedule.

Writes each step's loss in hex to a file, one line a step, and at the end a digest of all that a resume restores.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

import castore


def digest(*states: Any) -> str:
    """Of all tensors and values in nested states."""
    found = hashlib.sha256()

    def walk(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(f"{value.device.type} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.dim() else b"")
            found.update(repr(value.item()).encode() if not value.dim() else b"")
        elif isinstance(value, dict):
            for key, item in value.items():
                found.update(repr(key).encode())
                walk(item)
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)
        else:
            found.update(repr(value).encode())

    walk(states)
    return found.hexdigest()


def main(store: str, out: str, steps: str, stop_after: str, kind: str, worker: str) -> None:
    """kind: "fused", "capturable" or "foreach", of AdamW."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(1)
    layers = (nn.Linear(64, 512), nn.LayerNorm(512), nn.GELU(), nn.Dropout(0.3), nn.Linear(512, 64), nn.Dropout(0.1))
    model = nn.Sequential(*layers).cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, **{kind: True})
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**24, growth_interval=3)  # so large that steps are skipped
    generator = torch.Generator("cuda").manual_seed(7)
    objects = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler, "data": generator}
    policy = {"every_steps": 1, "max_overhead": None, "when_busy": "wait"}
    with (
        castore.open(store, create=True) as opened,
        castore.Checkpointer(opened, policy=policy, worker=worker, report=False, **objects) as ckpt,
        Path(out).open("a") as file,
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error", castore.InexactResumeWarning)
            first = ckpt.resume()
        for step in range(first, int(steps)):
            optimizer.zero_grad()
            inputs = torch.randn(32, 64, device="cuda", generator=generator)
            with torch.autocast("cuda", torch.float16):
                loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True).expand(-1, 64))
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            file.write(f"{step} {loss.item().hex()}\n")
            file.flush()
            ckpt.step(step, metrics={"loss": loss.item()})
            if step == int(stop_after):
                ckpt.close()
                os._exit(0)
        states = [one.state_dict() for one in (model, optimizer, scheduler, scaler)]
        file.write(f"end {digest(*states, torch.cuda.get_rng_state(), generator.get_state())}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
