from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from castore.errors import StateError
from castore.state.live import rng_state, set_rng_state
from castore.testing.states import equal_states


@pytest.fixture(autouse=True)
def generators_as_before() -> Iterator[None]:
    before = rng_state()
    yield
    set_rng_state(before)


def drawn() -> tuple[Any, ...]:
    return random.gauss(0, 1), random.random(), np.random.randn(3).tolist(), torch.randn(3).tolist()


def test_generators_go_on_where_they_were(round_trip: Callable[..., Any]) -> None:
    drawn()  # leaves half a pair of normal numbers waiting in Python and in NumPy
    state = rng_state()
    again = round_trip(state)
    assert equal_states(again, state)
    expected = drawn()
    drawn()
    set_rng_state(again)
    assert drawn() == expected


@pytest.mark.parametrize("part", ["python", "numpy", "torch"])
def test_a_state_that_does_not_fit_changes_nothing(part: str) -> None:
    state, before = rng_state(), rng_state()
    drawn()
    now = rng_state()
    state[part] = {"version": 99} if part != "torch" else torch.zeros(3, dtype=torch.uint8)
    with pytest.raises(StateError, match="random number generator"):
        set_rng_state(state)
    assert equal_states(rng_state(), now)
    assert not equal_states(now, before)
