from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from castore.state.live.elements import TORCH_BY_NAME
from castore.testing.states import arrays, equal_states, plain_values, states, tensors

RoundTrip = Callable[..., Any]
slow_is_fine = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@slow_is_fine
@given(state=states(), seed=st.integers(0, 99))
def test_any_state_comes_back_bit_for_bit(round_trip: RoundTrip, state: Any, seed: int) -> None:
    assert equal_states(round_trip(state, seed=seed), state)


@slow_is_fine
@given(tensor=tensors())
def test_any_tensor_comes_back_bit_for_bit(round_trip: RoundTrip, tensor: torch.Tensor) -> None:
    assert equal_states(round_trip({"t": tensor}), {"t": tensor})


@slow_is_fine
@given(array=arrays())
def test_any_array_comes_back_bit_for_bit(round_trip: RoundTrip, array: Any) -> None:
    assert equal_states(round_trip([array]), [array])


@slow_is_fine
@given(value=plain_values())
def test_any_plain_value_comes_back_with_its_type(round_trip: RoundTrip, value: Any) -> None:
    assert equal_states(round_trip(value), value)


@pytest.mark.parametrize("name", TORCH_BY_NAME)
def test_every_dtype_keeps_0d_empty_and_strided_tensors(round_trip: RoundTrip, name: str) -> None:
    dtype = TORCH_BY_NAME[name]
    raw = torch.arange(24 * dtype.itemsize).to(torch.uint8) % (2 if dtype is torch.bool else 251)
    whole = raw.view(dtype).reshape(4, 6)
    state = {"whole": whole.clone(), "0d": whole[0, 0].clone(), "empty": whole[:0].clone(), "t": whole.clone().t()}
    assert equal_states(round_trip(state), state)


def test_long_bytes_and_strings_are_cut_into_chunks(round_trip: RoundTrip) -> None:
    state = {"b": b"ab" * 70_000, "a": bytearray(70_000), "s": "\ud800é" * 40_000, "i": 1 << 5000}
    assert equal_states(round_trip(state), state)


def test_a_module_state_dict_keeps_its_metadata(round_trip: RoundTrip) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    again = round_trip(state)
    assert type(again) is OrderedDict
    assert again._metadata == state._metadata  # type: ignore[attr-defined]
    assert equal_states(again, state)


def test_records_keep_padding_and_offsets(round_trip: RoundTrip) -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["u1", ">f4"], "offsets": [1, 8], "itemsize": 16}, align=False)
    state = np.arange(64, dtype=np.uint8).view(dtype)
    assert equal_states(round_trip(state), state)
    aligned = np.zeros(3, np.dtype([("a", "u1"), ("b", "f8")], align=True))
    assert round_trip(aligned).dtype.isalignedstruct


def test_a_tensor_that_requires_grad_comes_back_as_a_leaf(round_trip: RoundTrip) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    again = round_trip([weight, weight * 2])
    assert [tensor.requires_grad for tensor in again] == [True, True]
    assert all(tensor.is_leaf for tensor in again)


def test_sparse_layouts_come_back(round_trip: RoundTrip) -> None:
    dense = torch.tensor([[0.0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0], [0, 0, 0, 4]])
    uncoalesced = torch.sparse_coo_tensor(torch.tensor([[0, 0]]), torch.ones(2, 3), (2, 3))
    blocks = [dense.to_sparse_bsr((2, 2)), dense.to_sparse_bsc((2, 2))]
    state = [dense.to_sparse(), uncoalesced, dense.to_sparse_csr(), dense.to_sparse_csc(), *blocks]
    state[0].requires_grad_()
    assert equal_states(round_trip(state), state)


def test_a_device_may_be_named(round_trip: RoundTrip) -> None:
    base = torch.arange(6.0)
    again = round_trip([base, base[2:], torch.ones(2)], device="meta")
    assert [tensor.device.type for tensor in again] == ["meta"] * 3
    assert again[0].untyped_storage()._cdata == again[1].untyped_storage()._cdata
