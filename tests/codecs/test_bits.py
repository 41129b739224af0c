"""The bit fields of kernels: those of the processor, and those that do without, against what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numpy.typing import NDArray

from castore.kernels import bits

WIDTHS = (8, 16, 32, 64)
U64 = NDArray[np.uint64]


def over(function: Any) -> Any:
    """`function` of two words and a width, over arrays."""

    @njit
    def looped(a: Any, b: Any, width: Any, out: Any) -> None:
        for i in range(a.size):
            out[i] = function(a[i], b[i], width)

    return looped


GATHER = {"portable": over(bits.gather_portable), "chosen": over(bits.gather)}
SCATTER = {"portable": over(bits.scatter_portable), "chosen": over(bits.scatter)}


@njit
def lowest_of_both(values: Any, counts: Any, portable: Any, chosen: Any) -> None:
    for i in range(values.size):
        portable[i] = bits.lowest_portable(values[i], counts[i])
        chosen[i] = bits.lowest(values[i], counts[i])


def masks(counts: U64, width: int) -> U64:
    """The low bits of each word, as many as `counts` [n, words] say."""
    found = np.zeros(counts.shape[0], np.uint64)
    for k in range(64 // width):
        ones = np.array([(1 << int(count)) - 1 for count in counts[:, k]], np.uint64)
        found |= ones << np.uint64(width * k)
    return found


def gathered(value: int, counts: list[int], width: int) -> int:
    """The low bits of each word of `value`, those of the lowest word first."""
    found = at = 0
    for k, count in enumerate(counts):
        found |= (value >> width * k & (1 << count) - 1) << at
        at += count
    return found


def run(function: Any, a: U64, b: U64, width: int) -> U64:
    out = np.empty_like(a)
    function(a, b, width, out)
    return out


@pytest.mark.parametrize("name", GATHER)
@pytest.mark.parametrize("width", WIDTHS)
def test_fields_are_gathered_from_the_low_bits_of_words_and_scattered_back(name: str, width: int) -> None:
    rng = np.random.default_rng(width)
    words = 64 // width
    counts = rng.integers(0, width + 1, (3000, words)).astype(np.uint64)
    counts[0], counts[1] = 0, width
    counts[2:500] = np.where(rng.random((498, words)) < 0.5, 0, width)
    values = rng.integers(0, 1 << 64, 3000, np.uint64)
    chosen = masks(counts, width)
    found = run(GATHER[name], values, chosen, width)
    assert found.tolist() == [
        gathered(value, row, width) for value, row in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    assert np.array_equal(run(SCATTER[name], found, chosen, width), values & chosen)
    # What lies above the fields does not matter.
    noise = np.array([(1 << int(sum(row))) - 1 for row in counts.tolist()], np.uint64)
    assert np.array_equal(run(SCATTER[name], found | (values & ~noise), chosen, width), values & chosen)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 63), st.integers(0, 2**56 - 1)), min_size=1))
def test_lowest_bits_are_counted_by_the_lowest_byte(rows: list[tuple[int, int, int]]) -> None:
    values = np.array([value for value, _, _ in rows], np.uint64)
    counts = np.array([count | above << 8 for _, count, above in rows], np.uint64)
    portable, chosen = np.empty_like(values), np.empty_like(values)
    lowest_of_both(values, counts, portable, chosen)
    expected = [value & (1 << count) - 1 for value, count, _ in rows]
    assert portable.tolist() == expected
    assert chosen.tolist() == expected


def test_words_of_64_bits_are_loaded_and_stored_at_any_byte() -> None:
    @njit
    def copy(source: Any, target: Any) -> None:
        for at in range(source.size - 7):
            bits.store_64(target, at, bits.load_64(source, at))

    @njit
    def ones(values: Any, out: Any) -> None:
        for i in range(values.size):
            out[i] = bits.count_ones(values[i])

    source = np.frombuffer(np.random.default_rng(1).bytes(1001), np.uint8)
    target = np.zeros(1001, np.uint8)
    copy(source, target)
    assert np.array_equal(source, target)
    values = np.array([0, 1, 2**64 - 1, 0x8000000000000001], np.uint64)
    out = np.empty_like(values)
    ones(values, out)
    assert out.tolist() == [0, 1, 64, 2]
