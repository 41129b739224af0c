"""Loading: all of a commit, a part of it, into what is there; and nothing that was damaged."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings

import castore
from castore.errors import CorruptError, RevisionError, StateError
from castore.store import Store
from castore.testing.states import equal_states, states
from tests.samples import LARGE, assert_loads, assert_sound, flip, packs, state


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return castore.open(tmp_path_factory.mktemp("store"), create=True)


@given(states())
@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
def test_any_state_comes_back_bit_for_bit_on_top_of_any_other(shared_store: Store, given_state: Any) -> None:
    commit = shared_store.commit(given_state)
    assert equal_states(shared_store.load(commit.id), given_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.float64, torch.bool])
def test_tensors_of_several_chunks_come_back_through_chains_of_deltas(store: Store, dtype: torch.dtype) -> None:
    start = torch.randn(LARGE, generator=torch.Generator().manual_seed(1))
    history = {}
    for step in range(8):
        value = start + step * 1e-4
        value = value * 100 if not dtype.is_floating_point else value
        value[step::1000] = float(step % 2)
        history[store.commit({"w": value.to(dtype), "n": step}).id] = {"w": value.to(dtype), "n": step}
    for commit, wanted in history.items():
        assert equal_states(store.load(commit), wanted)
    if dtype in (torch.float32, torch.bfloat16):
        assert any(store.show(commit).stats.total.delta_bytes for commit in history)
    assert_sound(store)


NAMED = {
    "model": OrderedDict(
        [("layer.weight", torch.ones(2)), ("layer.bias", torch.zeros(2)), ("head.weight", torch.ones(3))]
    ),
    "optimizer": {
        "state": {0: {"exp": torch.ones(4)}, 10: {"exp": torch.zeros(4)}},
        "groups": [{"lr": 0.1}, {"lr": 0.2}],
    },
    "step": 7,
}


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ("model", {"model": NAMED["model"]}),
        ("step", {"step": 7}),
        (["step", "model.layer.bias"], {"model": OrderedDict([("layer.bias", torch.zeros(2))]), "step": 7}),
        ("model.*.weight", {"model": OrderedDict([("layer.weight", torch.ones(2)), ("head.weight", torch.ones(3))])}),
        ("model.layer", {"model": OrderedDict([("layer.weight", torch.ones(2)), ("layer.bias", torch.zeros(2))])}),
        ("optimizer.state.10", {"optimizer": {"state": {10: {"exp": torch.zeros(4)}}}}),
        ("optimizer.groups.1", {"optimizer": {"groups": [{"lr": 0.2}]}}),
        ("optimizer.groups.*.lr", {"optimizer": {"groups": [{"lr": 0.1}, {"lr": 0.2}]}}),
        ("*", NAMED),
    ],
    ids=repr,
)
def test_only_loads_the_part_that_is_named(store: Store, only: Any, wanted: Any) -> None:
    store.commit(NAMED)
    assert equal_states(store.load(only=only), wanted)


@pytest.mark.parametrize("only", ["nothing", "mode", "model.layer.weight.deeper", [], "layer.weight"])
def test_only_that_fits_nothing_is_refused_with_what_is_there(store: Store, only: Any) -> None:
    store.commit(NAMED)
    with pytest.raises(StateError, match="model, optimizer, step"):
        store.load(only=only)


def test_only_reads_nothing_else(store: Store) -> None:
    value = {"good": torch.arange(500), "bad": torch.randn(5000)}
    store.commit(value)
    path = packs(store)[0]
    index = store._repo.chunks.access.index
    (place,) = [place for _, place in index.items() if place.raw_length == 20_000]
    flip(path, place.offset + 3)
    assert equal_states(store.load(only="good"), {"good": value["good"]})
    with pytest.raises(CorruptError, match="bad cannot be loaded"):
        store.load()


def test_tied_weights_come_back_tied_also_when_only_the_second_is_asked_for(store: Store) -> None:
    tied = torch.randn(6, 4)
    value = {"embed": tied, "head": {"weight": tied, "row": tied[2]}, "other": torch.zeros(3)}
    store.commit(value)
    loaded = store.load()
    assert equal_states(loaded, value)
    assert loaded["embed"].data_ptr() == loaded["head"]["weight"].data_ptr()
    assert equal_states(store.load(only="head"), {"head": value["head"]})
    assert equal_states(store.load(only="head.row"), {"head": {"row": tied[2]}})
    assert equal_states(store.load(only=["embed", "head.row"]), {"embed": tied, "head": {"row": tied[2]}})


def test_load_into_restores_a_training_run_in_place(store: Store) -> None:
    def make() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 6, generator=torch.Generator().manual_seed(1))).square().sum().backward()
            optimizer.step()

    model, optimizer = make()
    train(model, optimizer)
    store.commit({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3})
    other, its_optimizer = make()
    pointers = [parameter.data_ptr() for parameter in other.parameters()]
    store.load_into("main", {"model": other, "optimizer": its_optimizer, "step": 0})
    assert [parameter.data_ptr() for parameter in other.parameters()] == pointers
    assert equal_states(dict(other.state_dict()), dict(model.state_dict()))
    train(model, optimizer)
    train(other, its_optimizer)
    assert equal_states(dict(other.state_dict()), dict(model.state_dict()))


def test_load_into_what_does_not_fit_is_refused_with_nothing_written(store: Store) -> None:
    store.commit({"a": torch.ones(4), "b": torch.ones(5)})
    target = {"a": torch.zeros(4), "b": torch.zeros(6)}
    with pytest.raises(StateError, match="b"):
        store.load_into("main", target)
    assert target["a"].sum() == 0
    with pytest.raises(StateError):
        store.load_into("main", {"a": torch.zeros(4)})


def test_a_device_is_where_tensors_are_loaded_to(store: Store) -> None:
    store.commit({"w": torch.ones(3)})
    assert store.load(device="meta")["w"].device.type == "meta"
    assert store.load(device=torch.device("cpu"))["w"].tolist() == [1, 1, 1]


def test_revisions_name_commits_as_in_git(store: Store) -> None:
    ids = [store.commit(state(seed), step=100 * seed).id for seed in range(4)]
    store.tag("v1", "main~2")
    store.branch("side", "main~1")
    for rev, seed in {
        "main": 3,
        "HEAD": 3,
        "main~1": 2,
        "HEAD~3": 0,
        "v1": 1,
        "side": 2,
        "side~1": 1,
        "main@{1}": 2,
        "main:step=100": 1,
        ids[2]: 2,
        ids[0][:10]: 0,
        "refs/heads/main": 3,
        "refs/tags/v1": 1,
    }.items():
        assert store.resolve(rev) == ids[seed], rev
        assert_loads(store, {rev: seed})
    for rev in ("nothing", "main~4", "main@{9}", "main:step=5", "0" * 32, ids[0][:2], "", "main~x", ids[0] + "0"):
        with pytest.raises(RevisionError):
            store.load(rev)


def test_a_commit_tells_what_it_was_made_of(store: Store) -> None:
    from datetime import datetime, timedelta, timezone

    when = datetime(2024, 5, 6, 7, 8, 9, 123456, timezone(timedelta(hours=-3, minutes=-30)))
    made = store.commit(
        {"w": torch.ones(3)},
        message="two\nlines",
        step=5,
        metrics={"loss": 0.1, "nan": float("nan"), "tensor": torch.tensor(2.0)},
        meta={"lr": "1e-3"},
        tier="fast",
        author="me",
        time=when,
    )
    shown = store.show("main")
    assert (shown.id, shown.message, shown.step, shown.author, shown.tier) == (made.id, "two\nlines", 5, "me", "fast")
    assert (shown.time, shown.time.utcoffset()) == (when, when.utcoffset())
    assert (shown.metrics["loss"], shown.metrics["tensor"], shown.meta["lr"]) == (0.1, 2.0, "1e-3")
    assert shown.metrics["nan"] != shown.metrics["nan"]
    assert shown.stats.total.raw_bytes == 12
    assert [commit.id for commit in store.log(limit=1)] == [made.id]


@pytest.mark.parametrize(
    "details",
    [{"step": -1}, {"step": 1.5}, {"step": True}, {"metrics": {"loss": "low"}}, {"message": "x" * (1 << 21)}],
    ids=lambda details: repr(details)[:40],
)
def test_details_of_the_wrong_kind_are_refused_before_anything_is_written(store: Store, details: Any) -> None:
    with pytest.raises(castore.errors.UsageError):
        store.commit({"w": 1}, **details)
    assert packs(store) == []
    assert store.branches() == {}
