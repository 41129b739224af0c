"""Commits beside the loop hold what was there when they were begun, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from castore.errors import RefNameError, StateError, UsageError
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits
from tests.samples import assert_sound, packs
from tests.training.small import CHUNK_ELEMENTS, LARGE, cloned, committed, open_store, random_bits


def everything(seed: int) -> dict[str, Any]:
    """A state of every kind of leaf, each once below and once above the size that has a place of its own."""
    dtypes = (torch.float32, torch.bfloat16, torch.bool, torch.complex64, torch.int64, torch.float64, torch.uint8)
    matrix = random_bits(torch.float32, 300 * 100, seed).reshape(300, 100)
    return {
        "small": {str(dtype): random_bits(dtype, 33, seed) for dtype in dtypes},
        "large": {
            str(dtype): random_bits(dtype, 3 * CHUNK_ELEMENTS * 8 // dtype.itemsize + 5, seed) for dtype in dtypes
        },
        "transposed": matrix.T,
        "strided": random_bits(torch.bfloat16, 90000, seed)[::2],
        "conjugated": random_bits(torch.complex64, LARGE, seed).conj(),
        "scalar": torch.tensor(float(seed)),
        "empty": torch.empty(0, 3),
        "parameter": torch.nn.Parameter(matrix[:7].clone()),
        "array": np.arange(LARGE, dtype=">f4") * seed,
        "columns": np.arange(40000, dtype=np.float64).reshape(200, 200)[:, ::2],
        "values": [
            seed,
            float("nan"),
            None,
            "text",
            b"bytes" * 20000,
            1 << 80,
            (1, {2: 3}),
            torch.float16,
            slice(1, 2),
        ],
    }


@pytest.mark.parametrize(("worker", "delta_base"), [("thread", "memory"), ("thread", "disk"), ("process", "memory")])
def test_every_kind_of_leaf_is_committed_as_it_was_when_the_loop_went_on(
    store: Store, worker: str, delta_base: str
) -> None:
    commits = Commits(store, worker=worker, delta_base=delta_base, effort="full")
    expected = []
    for seed in (1, 2, 2):
        state, other = everything(seed), everything(seed)
        commits.commit(state, step=seed)
        expected.append(other)
        for value in [*state["small"].values(), *state["large"].values(), state["strided"], state["transposed"]]:
            value.zero_()
        state["array"][:] = 0
        state["values"].clear()
    commits.close()
    for back, one in enumerate(reversed(expected)):
        assert equal_states(store.load(f"main~{back}"), one)
    assert_sound(store)


def test_states_may_grow_shrink_and_change_shape(store: Store) -> None:
    commits = Commits(store, worker="thread", effort="full")
    states = [
        {"a": torch.ones(LARGE), "b": torch.zeros(LARGE)},
        {"a": torch.ones(2 * LARGE), "b": torch.zeros(LARGE), "c": torch.full((LARGE,), 2.0)},
        {"c": torch.full((LARGE,), 2.0), "a": torch.ones(LARGE, dtype=torch.float64)},
        {"a": torch.ones(10)},
        {},
        {"a": torch.ones(LARGE)},
    ]
    for state in states:
        committed(commits, state)
        assert equal_states(store.load("main"), state)
    commits.close()


@pytest.mark.parametrize("leaf", [lambda: 0, object(), {1: object()}], ids=["lambda", "object", "nested"])
def test_a_leaf_without_a_safe_encoding_is_named_and_nothing_begun(store: Store, leaf: object) -> None:
    commits = Commits(store, worker="thread", effort="full")
    first = committed(commits, {"x": torch.ones(LARGE)})
    before = packs(store)
    with pytest.raises(StateError, match=r"model\.hook") as caught:
        commits.commit({"x": torch.zeros(LARGE), "model": {"hook": leaf}})
    assert "\n" not in str(caught.value)
    assert not commits.in_flight
    assert commits.wait() is None
    assert packs(store) == before and store.resolve("main") == first.commit.id
    committed(commits, {"x": torch.zeros(LARGE)})
    assert equal_states(store.load("main"), {"x": torch.zeros(LARGE)})
    commits.close()
    assert_sound(store)


def test_wrong_settings_are_refused_by_name(store: Store) -> None:
    with pytest.raises(UsageError, match="'gpu'"):
        Commits(store, worker="gpu")
    with pytest.raises(UsageError, match="'tape'"):
        Commits(store, delta_base="tape")
    with pytest.raises(RefNameError):
        Commits(store, "a..b")


ELEMENTS = {"weight": torch.float32, "half": torch.bfloat16, "mask": torch.bool, "wave": torch.complex64}
actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from(sorted(ELEMENTS)), st.integers(0, 4), st.integers(0, 255)),
        st.tuples(st.just("replace"), st.sampled_from(sorted(ELEMENTS)), st.integers(1, 5), st.integers(0, 255)),
        st.tuples(st.sampled_from(["save", "wait", "load"]), st.just(""), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(actions=actions, delta_base=st.sampled_from(["memory", "disk"]))
def test_whatever_a_loop_does_each_commit_is_what_was_there(
    actions: list[tuple[str, str, int, int]], delta_base: str
) -> None:
    with tempfile.TemporaryDirectory() as place, open_store(Path(place)) as store:
        state: dict[str, Any] = {name: random_bits(dtype, LARGE) for name, dtype in ELEMENTS.items()}
        state["step"] = 0
        commits = Commits(store, worker="thread", delta_base=delta_base, effort="full")
        saved: list[Any] = []
        for action, name, where, value in [*actions, ("save", "", 0, 0), ("load", "", 0, 0)]:
            if action == "write":  # one chunk's first bytes, past torch's knowledge every other time
                held = state[name].data if value % 2 else state[name]
                held[where * CHUNK_ELEMENTS : where * CHUNK_ELEMENTS + 9] = value
            elif action == "replace":
                state[name] = random_bits(ELEMENTS[name], where * CHUNK_ELEMENTS + value, value)
            elif action == "save":
                state["step"] += 1
                commits.commit(state, step=state["step"])
                saved.append(cloned(state))
            elif action == "wait":
                commits.wait()
            else:
                commits.wait()
                if saved:
                    assert equal_states(store.load("main"), saved[-1])
        commits.close()
        for back, one in enumerate(reversed(saved)):
            assert equal_states(store.load(f"main~{back}"), one)
