"""Objects of every kind that a loop has, restored in place."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn

import castore
from castore.store import Store
from castore.testing.states import equal_states
from tests.training.small import Loop, checkpointer, cloned


def test_objects_of_a_loop_are_restored_in_place(store: Store) -> None:
    loop = Loop()
    objects: dict[str, Any] = {
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(loop.optimizer, 20),
        "scaler": torch.amp.GradScaler("cpu", init_scale=512.0, growth_interval=1),
        "off": torch.amp.GradScaler("cpu", enabled=False),
        "python": random.Random(1),
        "numpy": np.random.Generator(np.random.Philox(2)),
        "torch": torch.Generator().manual_seed(3),
        "progress": {"epoch": 1, "seen": [1, 2], "best": (0.5, "a")},
        "history": [1.5, {"x": 2}],
        "ema": {"weight": torch.ones(30000), "modules": [nn.Linear(3, 3)]},
        "counts": np.arange(4),
        "nothing": None,
    }

    def draw() -> list[float]:
        return [
            objects["python"].random(),
            float(objects["numpy"].random()),
            float(torch.rand(1, generator=objects["torch"])),
        ]

    def advance() -> None:
        scaler = objects["scaler"]
        scaler.scale(loop.model(torch.ones(1, 20)).sum()).backward()
        scaler.step(loop.optimizer)
        scaler.update()
        objects["scheduler"].step()
        objects["progress"]["epoch"] += 1
        objects["progress"]["new"] = torch.ones(1).item()
        objects["progress"]["seen"].append(3)
        objects["history"].append("more")
        objects["ema"]["weight"].add_(1)
        with torch.no_grad():
            objects["ema"]["modules"][0].weight.zero_()
        objects["counts"] += 1

    advance()
    with checkpointer(store, loop, **objects) as ckpt:
        ckpt.step(0)
        numbers = draw()
        rate, scale = loop.optimizer.param_groups[0]["lr"], objects["scaler"].get_scale()
        weight = objects["ema"]["modules"][0].weight.clone()
        plain = cloned({name: objects[name] for name in ("progress", "history")})
        memory = objects["ema"]["weight"].data_ptr()
        with torch.no_grad():
            objects["ema"]["modules"][0].weight.fill_(7)
        for _ in range(3):
            advance()
        del objects["progress"]["epoch"]
        assert draw() != numbers
        assert (rate, scale) != (loop.optimizer.param_groups[0]["lr"], objects["scaler"].get_scale())
        assert ckpt.resume() == 1
    assert draw() == numbers
    assert (rate, scale) == (loop.optimizer.param_groups[0]["lr"], objects["scaler"].get_scale())
    assert objects["scheduler"].last_epoch == 1
    assert equal_states({name: objects[name] for name in plain}, plain)
    assert objects["ema"]["weight"].data_ptr() == memory and objects["ema"]["weight"].eq(2).all()
    assert torch.equal(objects["ema"]["modules"][0].weight, weight)
    assert objects["counts"].tolist() == [1, 2, 3, 4]


def test_the_best_metric_so_far_is_known_to_a_run_that_goes_on(store: Store) -> None:
    policy = castore.Policy(improved="loss", max_overhead=None, when_busy="wait", on_preemption=False)
    with checkpointer(store, Loop(), policy=policy) as ckpt:
        assert [ckpt.step(step, {"loss": loss}) for step, loss in enumerate([3.0, 1.0, 2.0])] == [True, True, False]
        ckpt.save()  # of the last step
    with checkpointer(store, Loop(), policy=policy) as ckpt:
        assert ckpt.resume() == 3
        assert [ckpt.step(step, {"loss": loss}) for step, loss in enumerate([1.5, 1.0, 0.9], 3)] == [False, False, True]
