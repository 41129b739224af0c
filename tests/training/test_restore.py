"""What a Checkpointer restores, in place, and what it says of that which does not fit."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import castore
from castore.errors import RevisionError, StateError, UsageError
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.resume import InexactResumeWarning
from tests.training.small import EVERY, Loop, checkpointer, cloned, steps


def test_a_branch_without_commits_is_begun_at_step_0_with_nothing_changed(store: Store) -> None:
    store.commit({"another": "branch"}, branch="other")
    loop = Loop()
    loop.train()
    before, rng = loop.copy(), torch.get_rng_state()
    grads = [param.grad.clone() for param in loop.model.parameters() if param.grad is not None]
    with checkpointer(store, loop) as ckpt:
        assert ckpt.resume() == 0
        assert equal_states(loop.copy(), before)
        assert torch.equal(torch.get_rng_state(), rng)
        assert all(torch.equal(p.grad, g) for p, g in zip(loop.model.parameters(), grads, strict=True))
    assert set(store.branches()) == {"other"}


def test_a_run_goes_on_with_the_step_after_the_newest_commit(store: Store) -> None:
    loop, copies = Loop(), []
    with checkpointer(store, loop) as ckpt:
        for step in range(3):
            loop.train()
            ckpt.step(step, {"loss": 1.0})
            copies.append(loop.copy())
        loop.train()
        assert ckpt.resume() == 3  # also of one that has gone on meanwhile
        assert equal_states(loop.copy(), copies[2])
    other = Loop(seed=5)
    memory = [param.data_ptr() for param in other.model.parameters()]
    with checkpointer(store, other) as ckpt:
        assert ckpt.resume() == 3
        assert equal_states(other.copy(), copies[2])
        assert [param.data_ptr() for param in other.model.parameters()] == memory
        loop.train(), ckpt.resume(), other.train()  # the generators are those of the commit
        assert ckpt.resume("main~1") == 2
        assert equal_states(other.copy(), copies[1])
        assert ckpt.resume("main:step=0") == 1
        assert equal_states(other.copy(), copies[0])
        with pytest.raises(RevisionError, match="step 77"):
            ckpt.resume("main:step=77")
        assert equal_states(other.copy(), copies[0])
    assert steps(store) == [0, 1, 2]


def test_random_numbers_go_on_as_they_would_have(store: Store) -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(1))]

    loop = Loop()
    with checkpointer(store, loop) as ckpt:
        ckpt.step(0)
        expected = draw()
        assert draw() != expected
        ckpt.resume()
        assert draw() == expected


def test_a_commit_without_a_step_is_gone_on_with_from_0(store: Store) -> None:
    with checkpointer(store, Loop()) as ckpt:
        ckpt.save()
        assert ckpt.resume() == 0


# What does not fit


class Wider(Loop):
    """Another width, no bias in one layer, and one layer more."""

    def __init__(self) -> None:
        super().__init__(seed=9)
        self.model = nn.Sequential(nn.Linear(20, 300), nn.Linear(300, 100, bias=False), nn.Linear(100, 2))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)


def test_what_does_not_fit_is_listed_and_nothing_restored(store: Store) -> None:
    loop = Loop()
    with checkpointer(store, loop, progress={"epoch": 3}, gone={"here": 1}) as ckpt:
        loop.train()
        ckpt.step(4)
    assert "gradients" not in store.load("main")
    wider, progress = Wider(), {"epoch": 0}
    wider.train()
    before, rng = wider.copy(), torch.get_rng_state()
    grads = [param.grad for param in wider.model.parameters()]
    assert None not in grads
    with checkpointer(store, wider, progress=progress, new={"x": torch.zeros(2)}) as ckpt:
        with pytest.raises(StateError) as caught:
            ckpt.resume()
        text = str(caught.value)
        assert "\n" not in text
        assert "model.0.weight: the commit has [200, 20], the state [300, 20]" in text
        assert "model.1.bias: only the commit has it" in text
        assert "model.2.weight: only the state has it" in text
        assert "gone: only the commit has it" in text
        assert equal_states(wider.copy(), before) and progress == {"epoch": 0}
        assert torch.equal(torch.get_rng_state(), rng)
        assert all(param.grad is grad for param, grad in zip(wider.model.parameters(), grads, strict=True))


def test_without_strict_the_rest_is_restored_and_a_warning_says_what_was_left(store: Store) -> None:
    loop = Loop()
    with checkpointer(store, loop, progress={"epoch": 3}) as ckpt:
        ckpt.step(4)
    wider, progress = Wider(), {"epoch": 0}
    before = wider.copy()
    with castore.Checkpointer(
        store, policy=EVERY, worker="thread", report=False, model=wider.model, progress=progress
    ) as ckpt:
        with pytest.warns(InexactResumeWarning) as caught:
            assert ckpt.resume(strict=False) == 5
        (text,) = [str(one.message) for one in caught]
    for name in ("model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias", "model.2.weight", "optimizer"):
        assert f"{name}: " in text
    assert progress == {"epoch": 3}
    assert equal_states(cloned(wider.model.state_dict()), before["model"])


def test_without_strict_what_fits_of_a_model_is_restored(store: Store) -> None:
    first = nn.ModuleDict({"body": nn.Linear(9, 8), "head": nn.Linear(8, 3)})
    with castore.Checkpointer(store, policy=EVERY, worker="thread", report=False, model=first) as ckpt:
        ckpt.step(0)
    other = nn.ModuleDict({"body": nn.Linear(9, 8), "head": nn.Linear(8, 4)})
    head = cloned(other["head"].state_dict())
    with (
        castore.Checkpointer(store, policy=EVERY, worker="thread", report=False, model=other) as ckpt,
        pytest.warns(InexactResumeWarning, match=r"model\.head\.weight.*model\.head\.bias"),
    ):
        ckpt.resume(strict=False)
    assert equal_states(other["body"].state_dict(), first["body"].state_dict())
    assert equal_states(other["head"].state_dict(), head)


def test_a_commit_that_is_none_of_a_loop_is_refused(store: Store) -> None:
    loop = Loop()
    before = loop.copy()
    store.commit([1, 2, 3])
    with checkpointer(store, loop) as ckpt:
        with pytest.raises(StateError, match="no commit of a training loop"):
            ckpt.resume()
        with pytest.raises(StateError):
            store.commit({"model": {"x": torch.zeros(3)}})
            ckpt.resume()
    assert equal_states(loop.copy(), before)


def test_other_threads_are_said_to_round_otherwise(store: Store) -> None:
    loop, threads = Loop(), torch.get_num_threads()
    with checkpointer(store, loop) as ckpt:
        ckpt.step(0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ckpt.resume()
        torch.set_num_threads(threads + 1)
        try:
            with pytest.warns(InexactResumeWarning, match=rf"set_num_threads\({threads}\)"):
                ckpt.resume()
        finally:
            torch.set_num_threads(threads)


def test_gpus_that_are_not_here_are_named(store: Store) -> None:
    loop = Loop()
    with checkpointer(store, loop) as ckpt:
        ckpt.step(0)
        ckpt.wait()
        state = store.load("main")
        state["rng"]["cuda"] = [torch.zeros(16, dtype=torch.uint8)] * (torch.cuda.device_count() + 3)
        store.commit(state, step=1)
        with pytest.warns(InexactResumeWarning, match="random number states of 3 CUDA devices that are not here"):
            assert ckpt.resume() == 2


def test_a_loader_of_other_batches_is_refused_with_nothing_restored(store: Store) -> None:
    loop = Loop()
    data = list(range(40))
    loader = DataLoader(data, batch_size=4, sampler=castore.ResumableSampler(data))
    with checkpointer(store, loop, loader=loader) as ckpt:
        for step, _ in zip(range(3), loader, strict=False):
            ckpt.step(step)
    committed = loop.copy()

    loop = Loop(seed=1)
    before = loop.copy()
    sampler = castore.ResumableSampler(data)
    with checkpointer(store, loop, loader=DataLoader(data, batch_size=8, sampler=sampler)) as ckpt:
        with pytest.raises(StateError, match="batch size was 4 and is 8"):
            ckpt.resume()
        assert equal_states(loop.copy(), before)
        with pytest.warns(castore.InexactResumeWarning, match="loader: .*batch size was 4 and is 8"):
            assert ckpt.resume(strict=False) == 3
    assert equal_states(loop.copy(), committed)
    assert sampler.epoch == 0


def test_the_first_commit_of_a_resumed_run_names_what_it_goes_on_from(store: Store) -> None:
    loop = Loop()
    with checkpointer(store, loop) as ckpt:
        ckpt.step(0)
        ckpt.step(1)
    came_from = store.resolve("main~1")
    with checkpointer(store, loop) as ckpt:
        ckpt.resume("main~1")
        ckpt.step(1)
        ckpt.step(2)
    notes = [commit.meta.get("resumed-from") for commit in store.log("main")]
    assert notes == [None, came_from, None, None]


def test_a_step_that_is_no_number_is_refused(store: Store) -> None:
    with checkpointer(store, Loop()) as ckpt:
        for step in ("3", -1, 1.5):
            with pytest.raises(UsageError, match="whole number from 0 on"):
                ckpt.step(step)  # type: ignore[arg-type]
