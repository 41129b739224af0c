from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from castore.state.live import flatten
from castore.state.live.elements import TORCH_BY_NAME
from castore.state.live.sources import pieces


@given(shape=st.lists(st.integers(0, 5), max_size=4).map(tuple), data=st.data())
def test_pieces_are_the_elements_in_order(shape: tuple[int, ...], data: st.DataObject) -> None:
    numel = math.prod(shape)
    first = data.draw(st.integers(0, numel))
    last = data.draw(st.integers(first, numel))
    array = np.arange(numel).reshape(shape)
    found = [np.asarray(array[index]).reshape(-1) for index, _ in pieces(shape, first, last)] if first < last else []
    assert np.concatenate([np.empty(0, int), *found]).tolist() == list(range(first, last))
    assert len(found) <= 2 * max(1, len(shape))


@pytest.mark.parametrize("name", TORCH_BY_NAME)
def test_a_contiguous_tensor_is_read_where_it_lies(name: str) -> None:
    tensor = torch.zeros(16 * 8, dtype=torch.uint8).view(TORCH_BY_NAME[name]).reshape(2, -1)
    tensor.requires_grad_(tensor.dtype.is_floating_point and tensor.element_size() > 1)
    span = flatten(tensor).sources[0].span(1, 3)
    assert np.frombuffer(span, np.uint8).ctypes.data == tensor.data_ptr() + tensor.element_size()
    assert span.contiguous and span.format == "B" and span.nbytes == 2 * tensor.element_size()


def test_a_contiguous_array_is_read_where_it_lies() -> None:
    array = np.zeros((3, 4), "<M8[ns]")
    assert np.frombuffer(flatten(array).sources[0].span(0, 12), np.uint8).ctypes.data == array.ctypes.data


def test_a_span_outside_the_tensor_is_an_error() -> None:
    with pytest.raises(IndexError):
        flatten(torch.zeros(3)).sources[0].span(2, 4)


def test_spans_of_a_strided_tensor_are_read_from_threads() -> None:
    tensor = torch.arange(3 * 5 * 7 * 2).reshape(3, 5, 7, 2).permute(2, 0, 3, 1)
    source = flatten(tensor).sources[0]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda first: bytes(source.span(first, first + 10)), range(0, 210, 10)))
    assert b"".join(parts) == tensor.contiguous().numpy().tobytes()
