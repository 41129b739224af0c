"""One training run: from its settings to its checkpoints on disk."""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.training.corpus import Batches, library_text
from benchmarks.training.model import Shape, Transformer, add_adapters, freeze_all_but_last
from benchmarks.training.optimizer import MasterWeightsAdamW, bf16_weights


@dataclass(frozen=True, slots=True)
class Settings:
    """What determines a trajectory.

    batch: windows per step. every: steps between checkpoints, the first of them at step `every`.
    warmup, horizon: steps of linear warm-up, and of the cosine decay that the run is the beginning of.
    parent: the kind whose last checkpoint the run starts from. text: path prefix of the library files it learns.
    """

    kind: str
    checkpoints: int
    every: int = 50
    shape: Shape = field(default_factory=Shape)
    batch: int = 8
    learning_rate: float = 3e-4
    warmup: int = 50
    horizon: int = 2000
    weight_decay: float = 0.1
    rank: int = 8
    parent: str | None = None
    text: str = ""
    seed: int = 1234


def train(settings: Settings, folder: Path, parent: Path | None) -> None:
    """Train and write step-NNNNN.pt files into `folder`. parent: a checkpoint of the parent kind."""
    torch.manual_seed(settings.seed)
    random.seed(settings.seed)
    model = _model(settings, parent)
    optimizer = _optimizer(settings, model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    batches = Batches(library_text(settings.text), settings.batch, settings.shape.context, settings.seed)
    steps = settings.every * settings.checkpoints
    started = time.perf_counter()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss = model.loss(*batches.next())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_trainable(model), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 10 == 0 or step == steps:
            _report(settings.kind, step, steps, loss.item(), time.perf_counter() - started)
        if step % settings.every == 0:
            state = _state(settings, model, optimizer, scheduler, batches, step)
            torch.save(state, folder / f"step-{step:05d}.pt")


def _model(settings: Settings, parent: Path | None) -> Transformer:
    model = Transformer(settings.shape)
    if parent is not None:
        model.load_state_dict(torch.load(parent, weights_only=True)["model"])
    if settings.kind == "finetune":
        freeze_all_but_last(model)
    elif settings.kind == "lora":
        add_adapters(model, settings.rank)
    return model


def _trainable(model: Transformer) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizer(settings: Settings, model: Transformer) -> torch.optim.AdamW:
    kind = MasterWeightsAdamW if settings.kind == "gpt-bf16" else torch.optim.AdamW
    return kind(_trainable(model), lr=settings.learning_rate, betas=(0.9, 0.999), weight_decay=settings.weight_decay)


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = min(1.0, (step - settings.warmup) / (settings.horizon - settings.warmup))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _state(
    settings: Settings,
    model: Transformer,
    optimizer: torch.optim.AdamW,
    scheduler: torch.optim.lr_scheduler.LambdaLR,
    batches: Batches,
    step: int,
) -> dict[str, Any]:
    weights = model.state_dict()
    state: dict[str, Any] = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "scheduler": {name: value for name, value in scheduler.state_dict().items() if name != "lr_lambdas"},
        "rng": {"torch": torch.get_rng_state(), "python": random.getstate(), "batches": batches.state_dict()},
        "step": step,
    }
    if isinstance(optimizer, MasterWeightsAdamW):
        state["model"] = bf16_weights(weights)
        state["masters"] = dict(zip(_names(model.named_parameters()), optimizer.masters, strict=True))
        state["masters"] = {name: master.detach() for name, master in state["masters"].items()}
    return state


def _names(named: Iterable[tuple[str, torch.nn.Parameter]]) -> list[str]:
    return [name for name, parameter in named if parameter.requires_grad]


def _report(kind: str, step: int, steps: int, loss: float, seconds: float) -> None:
    left = seconds / step * (steps - step)
    line = f"{kind}: step {step}/{steps}, loss {loss:.3f}, {seconds:.0f} s, {left:.0f} s left"
    end = "\n" if step == steps or not sys.stderr.isatty() else "   \r"
    if sys.stderr.isatty() or step % 50 == 0 or step == steps:
        print(line, end=end, file=sys.stderr, flush=True)
