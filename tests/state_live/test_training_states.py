"""The state dicts of a real training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop, lr_scheduler

from castore.testing.states import equal_states

RoundTrip = Callable[..., Any]

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "AdamW": lambda params: AdamW(params, amsgrad=True),
    "SGD": lambda params: SGD(params, 0.1, momentum=0.9, nesterov=True),
    "Adagrad": Adagrad,
    "RMSprop": lambda params: RMSprop(params, centered=True, momentum=0.5),
    "LBFGS": lambda params: torch.optim.LBFGS(params, max_iter=3),
}
SCHEDULERS: dict[str, Callable[[Optimizer], lr_scheduler.LRScheduler]] = {
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 4, 4]),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.1, total_steps=10),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 10),
}


def trained(make: Callable[[Any], Optimizer]) -> tuple[torch.nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    optimizer = make(model.parameters())

    def loss() -> float:
        optimizer.zero_grad()
        value: torch.Tensor = model(torch.ones(2, 3)).square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    for _ in range(3):
        optimizer.step(loss)
    return model, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_comes_back(round_trip: RoundTrip, name: str) -> None:
    model, optimizer = trained(OPTIMIZERS[name])
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    again = round_trip(state)
    assert equal_states(again, state)
    optimizer.load_state_dict(again["optimizer"])
    model.load_state_dict(again["model"])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_comes_back(round_trip: RoundTrip, name: str) -> None:
    _, optimizer = trained(OPTIMIZERS["SGD"])
    scheduler = SCHEDULERS[name](optimizer)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    state = scheduler.state_dict()
    again = round_trip(state)
    assert equal_states(again, state)
    scheduler.load_state_dict(again)


def test_a_grad_scaler_comes_back(round_trip: RoundTrip) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(1))
    assert equal_states(round_trip(scaler.state_dict()), scaler.state_dict())
