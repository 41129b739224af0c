"""The training job that is checkpointed, and how large it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.training.corpus import Batches, library_text
from benchmarks.training.model import Shape, Transformer


@dataclass(frozen=True, slots=True)
class Size:
    """A model, and how a run of it goes.

    batch: windows per step. every: steps from one checkpoint to the next. commits: how many are measured.
    before: steps before the first checkpoint. yardsticks: copies of the state that are timed, before and after.
    device: "cpu" or "cuda", where model and optimizer are. alternating: as many steps without a checkpoint come before
    each one, which they are compared with: a machine whose speed changes has the same speed for both.
    """

    shape: Shape
    batch: int
    every: int
    commits: int
    before: int = 3
    yardsticks: int = 3
    device: str = "cpu"
    alternating: bool = False


QUICK_SHAPE = Shape(layers=2, width=128, heads=2, context=32)
GIGABYTE = Shape(layers=12, width=768, heads=12, context=128)  # 85.5 M parameters: 1.03 GB with AdamW's state


class Job:
    """A model that learns with AdamW; always the same steps from the same beginning."""

    def __init__(self, shape: Shape, batch: int, device: str = "cpu") -> None:
        torch.manual_seed(1234)
        self.device = device
        self.model = Transformer(shape).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, weight_decay=0.1)
        self.batches = Batches(library_text(), batch, shape.context, seed=1234)

    def step(self, before_update: Callable[[], object] = lambda: None) -> None:
        """One step. before_update: called when the gradients are there, before anything of the state changes."""
        self.optimizer.zero_grad()
        loss = self.model.loss(*(one.to(self.device) for one in self.batches.next()))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        before_update()
        self.optimizer.step()

    def settle(self) -> None:
        """Wait until the device has done all that it was asked for: what was begun before a clock is read is over."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def state(self) -> dict[str, Any]:
        """What every method saves, as the live tensors. castore adds the states of random number generators."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state over, as a script would that goes on."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
