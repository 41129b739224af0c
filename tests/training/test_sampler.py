"""A run that goes on in mid-epoch gets the samples, and the random numbers, of one that was never interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

import castore
from castore.errors import StateError, UsageError
from castore.training.sampler import ResumableSampler


class Samples(Dataset[torch.Tensor]):
    """Each sample is its index and, as augmentation, a number drawn where it is loaded."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.loaded: list[int] = []  # in this process

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        self.loaded.append(index)
        return torch.tensor([index, torch.randint(1 << 30, ()).item()])


class Run:
    """A run: a loader, and torch's random state, which the model draws from after each batch."""

    def __init__(self, length: int = 23, *, shuffle: bool = True, replay: bool = False, seed: int = 5, **how: Any):
        torch.manual_seed(99)
        self.samples = Samples(length)
        self.sampler = ResumableSampler(self.samples, shuffle=shuffle, seed=seed, replay=replay)
        self.loader = self.sampler.watch(DataLoader(self.samples, sampler=self.sampler, **{"batch_size": 4, **how}))

    def batches(self, epochs: int) -> Iterator[tuple[list[int], list[int], float]]:
        """From where it is: the indices, the augmentation, and what the model draws, batch by batch."""
        for _ in range(self.sampler.epoch, epochs):
            for batch in self.loader:
                pairs = batch.reshape(-1, 2)
                yield pairs[:, 0].tolist(), pairs[:, 1].tolist(), torch.rand(()).item()
            torch.rand(())  # at the end of an epoch

    def state(self) -> tuple[dict[str, Any], torch.Tensor]:
        return self.sampler.state_dict(), torch.get_rng_state()

    def resume(self, state: tuple[dict[str, Any], torch.Tensor]) -> Run:
        self.sampler.load_state_dict(state[0])
        torch.set_rng_state(state[1])
        return self


def interrupted(after: int, epochs: int, length: int = 23, **how: Any) -> tuple[list[Any], list[Any]]:
    """The batches of a whole run, and those of one that a new process goes on with after some batches."""
    whole = list(Run(length, **how).batches(epochs))
    whole.append(torch.rand(()).item())
    first = Run(length, **how)
    batches = first.batches(epochs)
    parts = [next(batches) for _ in range(after)]
    state = first.state()
    del batches
    parts += Run(length, **how).resume(state).batches(epochs)
    parts.append(torch.rand(()).item())
    return whole, parts


def order(batches: list[Any]) -> list[list[int]]:
    return [batch[0] for batch in batches[:-1]]


def stream(batches: list[Any]) -> list[float]:
    """What the model drew, and one number more."""
    return [*(batch[2] for batch in batches[:-1]), batches[-1]]


# In this process


@given(
    length=st.integers(1, 20),
    batch_size=st.sampled_from([None, 1, 2, 3, 7, 30]),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    replay=st.booleans(),
    own_generator=st.booleans(),
    data=st.data(),
)
@settings(max_examples=60)
def test_an_interrupted_run_is_an_uninterrupted_one(
    length: int,
    batch_size: int | None,
    drop_last: bool,
    shuffle: bool,
    replay: bool,
    own_generator: bool,
    data: st.DataObject,
) -> None:
    how: dict[str, Any] = {"batch_size": batch_size, "drop_last": drop_last and batch_size is not None}
    size = batch_size or 1
    total = 3 * (length // size if how["drop_last"] else -(-length // size))
    after = data.draw(st.integers(0, total))
    if own_generator:
        how["generator"] = torch.Generator().manual_seed(3)
        how_again = {**how, "generator": torch.Generator().manual_seed(3)}
    else:
        how_again = how
    whole = [*Run(length, shuffle=shuffle, replay=replay, **how).batches(3), torch.rand(()).item()]
    first = Run(length, shuffle=shuffle, replay=replay, **how_again)
    batches = first.batches(3)
    parts = [next(batches) for _ in range(after)]
    state = first.state()
    second = Run(length, shuffle=shuffle, replay=replay, **how).resume(state)
    parts += [*second.batches(3), torch.rand(()).item()]
    assert parts == whole
    assert len(whole) == total + 1


@pytest.mark.parametrize("after", range(5))
def test_a_run_can_be_interrupted_again_and_again(after: int) -> None:
    whole = [*Run().batches(3), torch.rand(()).item()]
    parts: list[Any] = []
    run = Run()
    while len(parts) < len(whole) - 1:
        batches = run.batches(3)
        for _ in range(after + 1):
            if (batch := next(batches, None)) is not None:
                parts.append(batch)
        state = run.state()
        run = Run().resume(state)
    parts += [*run.batches(3), torch.rand(()).item()]
    assert parts == whole


def test_batches_that_were_consumed_are_not_loaded_again() -> None:
    first = Run(100, batch_size=10)
    batches = first.batches(1)
    for _ in range(7):
        next(batches)
    second = Run(100, batch_size=10).resume(first.state())
    rest = list(second.batches(1))
    assert len(rest) == 3
    assert sorted(first.samples.loaded + second.samples.loaded) == list(range(100))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    torch.manual_seed(1)
    orders = [[*sampler] for sampler in [ResumableSampler(50, seed=1)] for _ in range(3)]
    before = torch.get_rng_state()
    again = ResumableSampler(range(50), seed=1)
    assert [[*again] for _ in range(3)] == orders
    assert torch.equal(torch.get_rng_state(), before)
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in [*orders, [*ResumableSampler(50, seed=2)]]}) == 4
    assert [*ResumableSampler(5, shuffle=False)] == [0, 1, 2, 3, 4]


def test_an_iteration_left_by_break_is_followed_by_the_next_epoch() -> None:
    whole = order([*Run().batches(3), 0.0])
    run = Run()
    for number, _ in enumerate(run.loader):
        if number == 2:
            assert run.sampler.epoch == 0
            break
    assert run.sampler.state_dict()["batches"] == 3
    assert next(iter(run.loader))[:, 0].tolist() == whole[6]
    assert (run.sampler.epoch, run.sampler.state_dict()["batches"]) == (1, 1)


def test_a_state_from_the_end_of_an_epoch_leaves_what_comes_at_its_end_to_be_done() -> None:
    run = Run()
    for number, _ in enumerate(run.loader, start=1):
        if number == len(run.loader):
            at_last_batch = run.state()
    after_loop = run.state()
    resumed = Run().resume(at_last_batch)
    assert resumed.sampler.epoch == 0
    assert list(resumed.loader) == []
    assert resumed.sampler.epoch == 1
    resumed = Run().resume(after_loop)
    assert resumed.sampler.epoch == 1
    assert len(list(resumed.loader)) == 6


def test_a_state_that_was_loaded_and_not_yet_used_is_given_back() -> None:
    run = Run()
    batches = run.batches(2)
    for _ in range(8):
        next(batches)
    state = run.state()
    again = Run().resume(state)
    assert str(again.sampler.state_dict()) == str(state[0])


def test_a_state_goes_through_a_store(tmp_path: Path) -> None:
    whole = [*Run().batches(2), 0.0]
    run = Run()
    batches = run.batches(2)
    for _ in range(4):
        next(batches)
    with castore.open(tmp_path, create=True) as store:
        store.commit({"sampler": run.sampler.state_dict(), "rng": torch.get_rng_state()})
        state = store.load("main")
    resumed = Run().resume((state["sampler"], state["rng"]))
    assert [*resumed.batches(2)] == whole[4:-1]


def test_the_loader_stays_what_it_was() -> None:
    run = Run()
    assert isinstance(run.loader, DataLoader)
    assert len(run.loader) == 6
    assert run.sampler.watch(run.loader) is run.loader
    assert len(list(run.loader)) == 6


def test_a_batch_sampler_that_is_given_counts_alike() -> None:
    whole = order([*Run().batches(1), 0.0])
    torch.manual_seed(99)
    samples = Samples(23)
    sampler = ResumableSampler(samples, seed=5)
    loader = sampler.watch(DataLoader(samples, batch_sampler=BatchSampler(sampler, 4, drop_last=False)))
    iterator = iter(loader)
    assert [next(iterator)[:, 0].tolist() for _ in range(3)] == whole[:3]
    resumed = Run()
    resumed.sampler.load_state_dict(sampler.state_dict())
    assert [batch[:, 0].tolist() for batch in resumed.loader] == whole[3:]


# With workers


@pytest.mark.parametrize("after", [1, 5, 6, 9])
def test_workers_that_prefetch_change_nothing_in_the_order_or_the_stream(after: int) -> None:
    whole, parts = interrupted(after, 2, num_workers=2, prefetch_factor=3)
    assert order(parts) == order(whole)
    assert stream(parts) == stream(whole)


@pytest.mark.parametrize("after", [3, 6, 8])
def test_replay_restores_what_workers_draw(after: int) -> None:
    whole, parts = interrupted(after, 2, num_workers=2, replay=True)
    assert parts == whole


@pytest.mark.parametrize("after", [4, 9])
def test_persistent_workers_change_nothing_in_the_order_or_the_stream(after: int) -> None:
    whole, parts = interrupted(after, 3, num_workers=2, persistent_workers=True, drop_last=True)
    assert order(parts) == order(whole)
    assert stream(parts) == stream(whole)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_run_goes_on_between_two_epochs_with_the_same_stream(persistent: bool) -> None:
    how: dict[str, Any] = {"num_workers": 2, "persistent_workers": persistent}
    run = Run(**how)
    assert len(list(run.loader)) == 6
    state = run.state()
    whole = [*run.batches(2), torch.rand(()).item()]
    parts = [*Run(**how).resume(state).batches(2), torch.rand(()).item()]
    assert order(parts) == order(whole)
    assert stream(parts) == stream(whole)


def test_replay_restores_what_persistent_workers_draw_in_their_first_epoch() -> None:
    whole, parts = interrupted(4, 2, num_workers=2, persistent_workers=True, replay=True)
    assert parts == whole


def test_breaking_off_beside_workers_that_persist_begins_the_next_epoch() -> None:
    whole = order([*Run().batches(2), 0.0])
    run = Run(num_workers=2, persistent_workers=True)
    for batch in run.loader:
        assert batch[:, 0].tolist() == whole[0]
        break
    assert [batch[:, 0].tolist() for batch in run.loader] == whole[6:]


def test_what_a_resume_cannot_restore_is_named() -> None:
    def sentence(replay: bool, **how: Any) -> str | None:
        run = Run(replay=replay, **how)
        return run.sampler.inexact(run.loader)

    assert sentence(False) is None
    assert sentence(True) is None
    assert sentence(True, num_workers=2) is None
    assert "replay=True" in (sentence(False, num_workers=2) or "")
    assert "persistent_workers=False" in (sentence(True, num_workers=2, persistent_workers=True) or "")


# Refusals


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 8}, "batch size was 4 and is 8"),
        ({"length": 24}, "samples was 23 and is 24"),
        ({"seed": 6}, "seed was 5 and is 6"),
        ({"shuffle": False}, "shuffle was True and is False"),
        ({"replay": True, "num_workers": 2}, "number of workers .* was 0 and is 2"),
    ],
)
def test_a_state_of_another_run_is_refused_by_what_differs(changes: dict[str, Any], named: str) -> None:
    run = Run()
    next(run.batches(1))
    other = Run(**changes)
    with pytest.raises(StateError, match=named):
        other.sampler.load_state_dict(run.sampler.state_dict())
    assert len(next(iter(other.loader))) == changes.get("batch_size", 4)  # nothing of it was taken over


def test_another_batch_size_is_refused_also_when_the_loader_comes_after_the_state() -> None:
    run = Run()
    next(run.batches(1))
    samples = Samples(23)
    sampler = ResumableSampler(samples, seed=5)
    sampler.load_state_dict(run.sampler.state_dict())
    with pytest.raises(StateError, match="batch size was 4 and is 3"):
        sampler.watch(DataLoader(samples, sampler=sampler, batch_size=3))


@pytest.mark.parametrize("damage", [{"epoch": -1}, {"batches": "3"}, {"batches": 7}, {"length": 2.0}, {"rng": ...}])
def test_a_damaged_state_is_refused(damage: dict[str, Any]) -> None:
    state = {**Run().sampler.state_dict(), **damage}
    if state["rng"] is ...:
        del state["rng"]
    with pytest.raises(StateError, match=next(iter(damage))):
        Run().sampler.load_state_dict(state)


def test_loaders_that_cannot_be_counted_are_refused_with_what_to_do() -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    class Bucketing(BatchSampler):
        pass

    samples = Samples(23)

    def refusal(loader: Any, sampler: ResumableSampler) -> str:
        with pytest.raises(UsageError) as caught:
            sampler.watch(loader)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    sampler = ResumableSampler(samples)
    assert "needs no" in refusal(StatefulDataLoader(samples, sampler=sampler), sampler)
    assert "elsewhere" in refusal(DataLoader(samples, shuffle=True), sampler)
    assert "Bucketing" in refusal(DataLoader(samples, batch_sampler=Bucketing(sampler, 4, True)), sampler)
    assert "in_order" in refusal(DataLoader(samples, sampler=sampler, in_order=False), sampler)
    assert "list" in refusal([1, 2], sampler)
    with pytest.raises(UsageError, match="watch"):
        sampler.state_dict()
    sampler.watch(DataLoader(samples, sampler=sampler))
    assert "one for each" in refusal(DataLoader(samples, sampler=sampler), sampler)
    with pytest.raises(UsageError, match="-1"):
        ResumableSampler(-1)
    assert isinstance(sampler, Sampler)
