"""Commits one optimizer step apart: what the step's own formula gives is not stored again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import castore
from castore.chunks.closure import depths
from tests.samples import assert_sound

WIDTH = 512


class Run:
    """A small network in training. Its tensors are large enough for the coders of tokens, and to warm them up."""

    def __init__(self, optimizer: Callable[..., torch.optim.Optimizer], **settings: Any) -> None:
        torch.manual_seed(0)
        layers = [
            torch.nn.Linear(WIDTH, WIDTH),
            torch.nn.GELU(),
            torch.nn.LayerNorm(WIDTH),
            torch.nn.Linear(WIDTH, WIDTH),
        ]
        self.model = torch.nn.Sequential(*layers)
        self.optimizer = optimizer(self.model.parameters(), **settings)
        for _ in range(3):
            self.step()

    def step(self) -> None:
        inputs = torch.randn(32, WIDTH)
        self.optimizer.zero_grad()
        (self.model(inputs) - inputs.roll(1, 1)).square().mean().backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        copies = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, copies)  # type: ignore[no-any-return]


def adamw(**settings: Any) -> Run:
    return Run(torch.optim.AdamW, lr=1e-3, weight_decay=0.1, **settings)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def stored(commit: castore.Commit, part: str) -> float:
    """What a part of the state took, of its raw bytes."""
    numbers = commit.stats.components[part]
    return numbers.stored_bytes / numbers.raw_bytes


def deepest(store: castore.Store) -> int:
    """The most deltas between a record of the store and a standalone one."""
    chunks = store._repo.chunks
    return max(depths(chunks.decoder.closure(dict(chunks.access.index.items()))).values())


def most_bases(store: castore.Store) -> int:
    """The most bases that a record of the store has."""
    return max(len(place.bases) for _, place in store._repo.chunks.access.index.items())


@pytest.mark.parametrize("settings", [{}, {"eps": 1e-6, "betas": (0.8, 0.95)}, {"foreach": True}, {"fused": True}])
def test_a_step_of_adamw_costs_its_first_moment(tmp_path: Path, settings: dict[str, Any]) -> None:
    run = adamw(**settings)
    with castore.open(tmp_path, create=True) as store:
        before = run.state()
        store.commit(before)
        run.step()
        after = run.state()
        commit = store.commit(after)
        assert stored(commit, "model") < 0.05
        assert stored(commit, "optimizer") < 0.48  # exp_avg whole, exp_avg_sq nearly free
        assert same(store.load("main"), after) and same(store.load("main~1"), before)
        assert same(store.load("main", only="model")["model"], after["model"])
        assert_sound(store)


def test_a_step_of_sgd_costs_its_momentum(tmp_path: Path) -> None:
    run = Run(torch.optim.SGD, lr=0.05, momentum=0.9)
    with castore.open(tmp_path, create=True) as store:
        store.commit(run.state())
        run.step()
        after = run.state()
        assert stored(store.commit(after), "model") < 0.05
        assert same(store.load("main"), after)
        assert_sound(store)


def test_steps_that_are_not_one_apart_have_one_base_each(tmp_path: Path) -> None:
    run = adamw()
    with castore.open(tmp_path, create=True) as store:
        store.commit(run.state())
        run.step()
        run.step()
        store.commit(run.state())
        assert most_bases(store) == 1


def test_low_precision_weights_are_derived_from_their_masters(tmp_path: Path) -> None:
    run = adamw()

    def state() -> dict[str, Any]:
        masters = run.state()["model"]
        return {"model": {name: one.bfloat16() for name, one in masters.items()}, "masters": masters}

    with castore.open(tmp_path, create=True) as store:
        first = state()
        store.commit({"warm": torch.randn(2 << 20)}, branch="warm")
        commit = store.commit(first)
        assert stored(commit, "model") < 0.02
        for _ in range(4):
            run.step()
        second = state()
        assert stored(store.commit(second), "model") < 0.02
        for rev, expected in (("main", second), ("main~1", first)):
            loaded = store.load(rev)
            assert all(
                torch.equal(loaded["model"][k].view(torch.int16), v.view(torch.int16))
                for k, v in expected["model"].items()
            )
            assert same(loaded["masters"], expected["masters"])
        assert_sound(store)


def test_a_copy_that_is_no_copy_is_stored_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    masters, copy = torch.randn(1 << 20), torch.randn(1 << 20).bfloat16()
    with castore.open(tmp_path, create=True) as store:
        store.commit({"warm": torch.randn(2 << 20)}, branch="warm")
        store.commit({"model": {"w": copy}, "masters": {"w": masters}})
        loaded = store.load("main")
        assert torch.equal(loaded["model"]["w"].view(torch.int16), copy.view(torch.int16))
        assert "predicted" not in store.stats().codecs


@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_the_depth_of_predictions_is_bounded(tmp_path: Path, depth: int) -> None:
    castore.open(tmp_path, create=True).close()
    config = tmp_path / ".castore" / "castore.toml"
    text, count = re.subn(r"max_depth_predicted = \d+", f"max_depth_predicted = {depth}", config.read_text())
    assert count == 1
    config.write_text(text)
    run = adamw()
    states = []
    with castore.open(tmp_path) as store:
        for _ in range(6):
            states.append(run.state())
            store.commit(states[-1])
            run.step()
        assert (most_bases(store) > 1) == (depth > 0)
        assert deepest(store) == max(depth, 1)
    with castore.open(tmp_path) as store:
        for back, expected in enumerate(reversed(states)):
            assert same(store.load(f"main~{back}"), expected)
        assert_sound(store)


def test_an_optimizer_of_other_parameters_misleads_nobody(tmp_path: Path) -> None:
    run, other = adamw(), adamw()
    with castore.open(tmp_path, create=True) as store:
        for _ in range(2):
            state = {"model": other.state()["model"], "optimizer": run.state()["optimizer"]}
            store.commit(state)
            run.step()
            other.step()
            other.step()
        assert same(store.load("main"), state)
        assert_sound(store)


def test_weights_that_became_nan_come_back_bit_for_bit(tmp_path: Path) -> None:
    run = adamw()
    with castore.open(tmp_path, create=True) as store:
        store.commit(run.state())
        run.step()
        state = run.state()
        bits = state["model"]["0.weight"].view(torch.int32)
        bits[:, 3] = 0x7FC01234
        bits[:, 4] = -0x800000
        bits[:, 5] = 1
        state["optimizer"]["state"][0]["exp_avg_sq"].view(torch.int32)[7] = -1
        state["optimizer"]["state"][0]["exp_avg"].view(torch.int32)[9] = 0x7F800000
        store.commit(state)
        assert same(store.load("main"), state)


def test_frozen_layers_of_the_same_shape_do_not_mislead(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(3)))
    model[:2].requires_grad_(False)
    optimizer = torch.optim.AdamW(model[2].parameters(), lr=1e-3)

    def state() -> dict[str, Any]:
        optimizer.zero_grad()
        model(torch.randn(8, WIDTH)).square().mean().backward()
        optimizer.step()
        copies = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        return torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, copies)  # type: ignore[no-any-return]

    with castore.open(tmp_path, create=True) as store:
        store.commit({"warm": torch.randn(2 << 20)}, branch="warm")
        state()
        store.commit(state())
        after = state()
        assert stored(store.commit(after), "model") < 0.02
        assert same(store.load("main"), after)
