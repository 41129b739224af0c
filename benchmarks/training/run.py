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
    resume: go on with the parent's optimizer, schedule, batches and step count, not with its weights alone.
    save_at: the steps to write checkpoints at, in place of `every` and `checkpoints`.
    momentum: of SGD, which takes AdamW's place where it is not zero.
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
    resume: bool = False
    save_at: tuple[int, ...] = ()
    momentum: float = 0.0

    @property
    def steps_saved(self) -> tuple[int, ...]:
        return self.save_at or tuple(self.every * i for i in range(1, self.checkpoints + 1))

    @property
    def master_weights(self) -> bool:
        return self.kind.startswith("gpt-bf16")


def train(settings: Settings, folder: Path, parent: Path | None) -> None:
    """Train and write step-NNNNN.pt files into `folder`. parent: a checkpoint of the parent kind."""
    torch.manual_seed(settings.seed)
    random.seed(settings.seed)
    start = torch.load(parent, weights_only=True) if parent is not None else None
    model = _model(settings, start)
    optimizer = _optimizer(settings, model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    batches = Batches(library_text(settings.text), settings.batch, settings.shape.context, settings.seed)
    first = 0
    if settings.resume and start is not None:
        _resume(start, optimizer, scheduler, batches)
        first = start["step"]
    last = max(settings.steps_saved)
    started = time.perf_counter()
    for step in range(first, last + 1):
        if step > first:
            loss = _step(model, optimizer, scheduler, batches)
            if step % 10 == 0 or step == last:
                _report(settings.kind, step - first, last - first, loss, time.perf_counter() - started)
        if step in settings.steps_saved:
            state = _state(settings, model, optimizer, scheduler, batches, step)
            torch.save(state, folder / f"step-{step:05d}.pt")


def _step(
    model: Transformer,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LambdaLR,
    batches: Batches,
) -> float:
    optimizer.zero_grad()
    loss = model.loss(*batches.next())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(_trainable(model), 1.0)
    optimizer.step()
    scheduler.step()
    return loss.item()


def _model(settings: Settings, start: dict[str, Any] | None) -> Transformer:
    model = Transformer(settings.shape)
    if start is not None:
        model.load_state_dict(start["model"])
    if settings.kind == "finetune":
        freeze_all_but_last(model)
    elif settings.kind == "lora":
        add_adapters(model, settings.rank)
    return model


def _trainable(model: Transformer) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _optimizer(settings: Settings, model: Transformer) -> torch.optim.Optimizer:
    weights, rate, decay = _trainable(model), settings.learning_rate, settings.weight_decay
    if settings.momentum:
        return torch.optim.SGD(weights, lr=rate, momentum=settings.momentum, weight_decay=decay)
    kind = MasterWeightsAdamW if settings.master_weights else torch.optim.AdamW
    return kind(weights, lr=rate, betas=(0.9, 0.999), weight_decay=decay)


def _resume(
    start: dict[str, Any],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LambdaLR,
    batches: Batches,
) -> None:
    """Go on exactly where the run that wrote `start` was."""
    optimizer.load_state_dict(start["optimizer"])
    if isinstance(optimizer, MasterWeightsAdamW):
        optimizer.load_masters(list(start["masters"].values()))
    # The schedule itself is code, and is not in the checkpoint.
    scheduler.load_state_dict(start["scheduler"] | {"lr_lambdas": [None]})
    batches.load_state_dict(start["rng"]["batches"])
    torch.set_rng_state(start["rng"]["torch"])
    random.setstate(start["rng"]["python"])


def _rate(step: int, settings: Settings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = min(1.0, (step - settings.warmup) / (settings.horizon - settings.warmup))
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _state(
    settings: Settings,
    model: Transformer,
    optimizer: torch.optim.Optimizer,
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
