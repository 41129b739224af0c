"""Every compiled kernel does what its NumPy reference says, on every word width and on adversarial bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from castore.dtypes import BY_CODE, DType
from castore.kernels import planes, reference
from castore.kernels.reference import Transform

WIDTHS = (2, 4, 8)
LENGTHS = (0, 1, 7, 31, 32, 33, 63, 64, 1023, 8192 + 5)
DTYPES = list(BY_CODE.values())


@pytest.fixture(autouse=True, scope="module")
def loaded_kernels() -> None:
    """Kernels that are loaded serve all sizes: without this, short arrays would only test the reference."""
    for width in WIDTHS:
        words = np.zeros(planes.COMPILE_BYTES // width, f"<u{width}")
        for transform in Transform:
            out = np.empty((width, words.size), np.uint8)
            planes.split(transform, words, words, out)
            planes.join(transform, list(out), words.copy())
    planes.entropies(np.zeros((1, 64), np.uint8))


def adversarial(dtype: DType, count: int) -> NDArray[Any]:
    """Words at the edges: zeros of both signs, infinities, NaNs with payloads, denormals, all ones; then noise."""
    bits = 8 * dtype.word
    sign, ones = 1 << (bits - 1), (1 << bits) - 1
    mantissa = max(bits - 1 - dtype.exponent, 0) if dtype.exponent else bits - 1
    infinity = ((1 << dtype.exponent) - 1) << mantissa
    edges = [0, 1, 2, sign, sign | 1, sign - 1, ones, ones - 1, infinity, sign | infinity, infinity | 1]
    edges += [infinity | (1 << max(mantissa - 1, 0)), 1 << mantissa & ones, (1 << mantissa) - 1]
    noise = np.frombuffer(np.random.default_rng(bits).bytes(count * dtype.word), f"<u{dtype.word}")
    words: NDArray[Any] = np.concatenate([np.array(edges, dtype=f"<u{dtype.word}"), noise])[:count].copy()
    return words


def check(transform: Transform, words: NDArray[Any], base: NDArray[Any]) -> None:
    shape = (words.itemsize, words.size)
    fast, slow = np.full(shape, 0xA5, np.uint8), np.full(shape, 0x5A, np.uint8)
    planes.split(transform, words, base, fast)
    reference.split(transform, words, base, slow)
    assert np.array_equal(fast, slow)
    for join in (planes.join, reference.join):
        out = base.copy()
        join(transform, list(fast), out)
        assert np.array_equal(out, words)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("transform", Transform, ids=lambda transform: transform.name.lower())
def test_split_and_join_agree_with_the_reference_on_edge_values(dtype: DType, transform: Transform) -> None:
    for length in LENGTHS:
        words = adversarial(dtype, length)
        for base in (words.copy(), np.roll(words, 1), np.zeros_like(words), ~words):
            check(transform, words, base)


@given(
    words=st.sampled_from(WIDTHS).flatmap(lambda width: hnp.arrays(f"<u{width}", st.integers(0, 100))),
    transform=st.sampled_from(Transform),
    data=st.data(),
)
def test_split_and_join_agree_with_the_reference(
    words: NDArray[Any], transform: Transform, data: st.DataObject
) -> None:
    check(transform, words, data.draw(hnp.arrays(words.dtype, words.shape)))


def test_unaligned_and_read_only_words_and_rows_apart_give_the_same_planes() -> None:
    raw = np.random.default_rng(3).bytes(4 * 1000 + 1)
    words, base = np.frombuffer(raw, "<u4", 1000, 1), np.frombuffer(raw, "<u4", 1000)
    for transform in Transform:
        expected = np.empty((4, 1000), np.uint8)
        reference.split(transform, words.copy(), base, expected)
        room = np.full((4, 1100), 7, np.uint8)
        planes.split(transform, words, base, room[:, :1000])
        assert np.array_equal(room[:, :1000], expected)
        assert (room[:, 1000:] == 7).all(), "wrote beyond a plane"
        target = bytearray(raw)
        out = np.frombuffer(target, "<u4", 1000, 1)
        out[:] = base
        planes.join(transform, [np.frombuffer(bytes(plane), np.uint8) for plane in expected], out)
        assert bytes(target) == raw


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 3000))))
def test_entropies_agree_with_the_reference(rows: NDArray[np.uint8]) -> None:
    assert planes.entropies(rows) == pytest.approx(reference.entropies(rows).tolist(), abs=1e-9)


def test_entropy_of_a_constant_row_is_exactly_zero_and_of_noise_about_eight() -> None:
    noise = np.frombuffer(np.random.default_rng(1).bytes(4096), np.uint8)
    for size in (1, 2, 3, 1000, 4096):
        rows = np.stack([np.full(size, 9, np.uint8), noise[:size]])
        assert planes.entropies(rows)[0] == 0.0
        assert reference.entropies(rows)[0] == 0.0
    assert planes.entropies(noise.reshape(1, -1))[0] == pytest.approx(8.0, abs=0.02)


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    words = np.zeros(64, np.uint32)
    with pytest.raises(ValueError, match="do not fit"):
        planes.split(Transform.PLAIN, words, None, np.empty((4, 63), np.uint8))
    with pytest.raises(ValueError, match="base has"):
        planes.split(Transform.XOR, words, words[1:], np.empty((4, 64), np.uint8))
    with pytest.raises(ValueError, match="do not fit"):
        planes.join(Transform.PLAIN, [np.zeros(64, np.uint8)] * 3, words)
    with pytest.raises(ValueError, match="sample of"):
        planes.entropies(np.empty((1, planes.MAX_SAMPLE + 1), np.uint8))
