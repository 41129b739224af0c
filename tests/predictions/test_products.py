"""Products of matrices by one thread: what NumPy makes of them, exactly where numbers are whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from castore.kernels.products import times, turned_times

sides = st.integers(0, 9) | st.sampled_from([63, 64, 65, 130])


def whole(rng: np.random.Generator, rows: int, columns: int, kind: type) -> NDArray[np.float32]:
    return rng.integers(-127, 128, (rows, columns)).astype(kind)


@given(rows=sides, inner=sides, columns=sides, kind=st.sampled_from([np.float32, np.float64]), seed=st.integers(0, 99))
def test_whole_numbers_are_multiplied_exactly(rows: int, inner: int, columns: int, kind: type, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = whole(rng, rows, inner, kind), whole(rng, inner, columns, kind)
    expected = (left.astype(np.int64) @ right.astype(np.int64)).astype(kind)
    assert np.array_equal(times(left, right), expected)
    assert np.array_equal(turned_times(np.ascontiguousarray(left.T), right), expected)
    out = np.full((rows, columns), np.nan, kind)
    assert times(left, right, out) is out
    assert np.array_equal(out, expected)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_others_are_off_by_rounding_alone(kind: type) -> None:
    rng = np.random.default_rng(1)
    left, right = (rng.standard_normal(shape).astype(kind) for shape in ((70, 200), (200, 90)))
    expected = left.astype(np.float64) @ right.astype(np.float64)
    most = 200 * np.finfo(kind).eps * (np.abs(left.astype(np.float64)) @ np.abs(right.astype(np.float64)))
    assert (np.abs(times(left, right) - expected) <= most).all()
    assert (np.abs(turned_times(np.ascontiguousarray(left.T), right) - expected) <= most).all()
