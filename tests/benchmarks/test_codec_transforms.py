"""What the benchmark feeds to codecs without a delta of their own loses no bit, whatever the bits are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.codecs import transforms

DTYPES = (np.uint16, np.uint32)


def adversarial(dtype: Any) -> tuple[Any, Any]:
    """Every pair of words from the edges of the number line: zeros, denormals, infinities, NaNs of either sign."""
    bits = 8 * np.dtype(dtype).itemsize
    edges = [0, 1, 2, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits - 1) + 1, (1 << bits) - 1]
    edges += [0x7F << bits - 9, 0xFF << bits - 9, (0xFF << bits - 9) + 1]
    edges += np.random.default_rng(0).integers(0, 1 << bits, 20).tolist()
    new, old = np.meshgrid(np.array(edges, dtype), np.array(edges, dtype))
    return new.ravel().copy(), old.ravel().copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["xor", "difference", "zigzag"])
def test_a_delta_and_its_inverse_give_the_words_back(name: str, dtype: Any) -> None:
    new, old = adversarial(dtype)
    out = np.empty_like(new)
    getattr(transforms, f"undo_{name}")(getattr(transforms, name)(new, old), old, out)
    assert np.array_equal(out, new)


@pytest.mark.parametrize("dtype", DTYPES)
def test_planes_are_the_bytes_of_the_xor_and_join_to_the_words(dtype: Any) -> None:
    new, old = adversarial(dtype)
    planes = np.empty((new.itemsize, new.size), np.uint8)
    transforms.split_xor(new, old, planes)
    assert np.array_equal(planes.T.ravel(), (new ^ old).view(np.uint8))
    out = np.empty_like(new)
    transforms.join_xor(planes, old, out)
    assert np.array_equal(out, new)


def test_ordered_integers_keep_the_order_of_floats() -> None:
    values = np.array([-np.inf, -1.0, -1e-40, 0.0, 1e-40, 1.0, np.inf], np.float32)
    ordered = transforms.ordered(values.view(np.uint32))
    assert np.all(np.diff(ordered.view(np.int32).astype(np.int64)) > 0)
    out = np.empty_like(ordered)
    transforms.undo_ordered(ordered, out)
    assert np.array_equal(out.view(np.float32), values)
