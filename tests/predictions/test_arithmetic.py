"""Predictions are the same bits on every machine and in every version: they are pinned here."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from castore.kernels import rows
from castore.kernels.predict import predict

Words = NDArray[np.uint32]
SMALL = np.float32(2.0**-125)


def words(seed: int, count: int = 4096) -> Words:
    """Floats of all sizes, and every kind of bit pattern."""
    rng = np.random.default_rng(seed)
    found = (rng.standard_normal(count) * 10.0 ** rng.integers(-30, 8, count)).astype(np.float32).view(np.uint32)
    odd = [
        0,
        1 << 31,
        1,
        0x807FFFFF,
        0x00800000,
        0x01000000,
        0x00FFFFFF,
        0x7F800000,
        0xFF800000,
        0x7FC00000,
        0x7F800001,
    ]
    found[: len(odd)] = odd
    found[-1024:] = rng.integers(0, 1 << 32, 1024, dtype=np.uint32)
    return found


def flushed(value: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):
        return np.where(np.abs(value) < SMALL, np.float32(0), value)


def finished(value: NDArray[np.float32], old: Words) -> Words:
    return np.where(np.isnan(value), old, flushed(value).view(np.uint32))


def floats(array: Words) -> NDArray[np.float32]:
    return flushed(array.view(np.float32))


def adaptive_step(old: Words, first: Words, second: Words, factors: NDArray[np.float32]) -> Words:
    c, a, s, eps = factors
    below = flushed(flushed(np.sqrt(floats(second)) / s) + eps)
    return finished(flushed(floats(old) * c) + flushed(flushed(a * floats(first)) / below), old)


def momentum_step(old: Words, momentum: Words, factors: NDArray[np.float32]) -> Words:
    c, a = factors
    return finished(flushed(floats(old) * c) + flushed(a * floats(momentum)), old)


def second_moment(old: Words, before: Words, first: Words, factors: NDArray[np.float32]) -> Words:
    share1, b2, share2 = factors
    g = flushed(floats(before) + flushed(flushed(floats(first) - floats(before)) / share1))
    return finished(flushed(floats(old) * b2) + flushed(flushed(share2 * g) * g), old)


CASES = {
    "adaptive_step": (adaptive_step, 3, (0.9999, -2.8e-4, 0.57, 1e-8), "fe26f50a3dc00f3b"),
    "momentum_step": (momentum_step, 2, (1.0, -0.05), "73e2d38a6e6a121b"),
    "second_moment": (second_moment, 3, (0.1, 0.999, 0.001), "0f08ed4c33e1a6a4"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_prediction_is_ieee_arithmetic_in_a_fixed_order(name: str) -> None:
    reference, count, constants, digest = CASES[name]
    bases = [words(seed) for seed in range(count)]
    factors = np.array(constants, np.float32)
    found = np.empty_like(bases[0])
    predict(name, bases, factors, found)
    with np.errstate(all="ignore"):
        assert found.tobytes() == reference(*bases, factors).tobytes()
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == digest


def test_rounding_is_torchs() -> None:
    import torch

    wide = words(5, 1 << 16)
    found = np.empty(wide.size, np.uint16)
    predict("rounded", [wide], np.empty(0, np.float32), found)
    expected = torch.from_numpy(wide.view(np.float32)).bfloat16().view(torch.int16).numpy().view(np.uint16)
    number = ~np.isnan(wide.view(np.float32))
    assert np.array_equal(found[number], expected[number])


def test_denormals_do_not_depend_on_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    bases = [words(seed) for seed in range(3)]
    factors = np.array((0.9999, -2.8e-4, 0.57, 1e-8), np.float32)
    usual, flushing = np.empty_like(bases[0]), np.empty_like(bases[0])
    predict("adaptive_step", bases, factors, usual)
    if not torch.set_flush_denormal(True):
        pytest.fail("this processor cannot flush denormals, which the test needs")
    try:
        predict("adaptive_step", bases, factors, flushing)
    finally:
        torch.set_flush_denormal(False)
    assert usual.tobytes() == flushing.tobytes()


def moved(
    base: Words, width: int, phase: int, shift: int, by_row: NDArray[np.int8], by_column: NDArray[np.int8]
) -> Words:
    place = phase + np.arange(base.size)
    moves = (by_row.astype(np.int64)[place // width] + by_column.astype(np.int64)[place % width]) << shift
    words = (base.astype(np.int64) + moves) % (1 << 32)
    return np.where((base == 0) | (words >= 1 << 31), 0, words).astype(np.uint32)


@pytest.mark.parametrize(("width", "phase"), [(1, 0), (7, 6), (64, 0), (384, 100), (4096, 1), (5000, 4999)])
@pytest.mark.parametrize("shift", [0, 15, 23])
def test_words_move_with_their_rows_and_columns(width: int, phase: int, shift: int) -> None:
    base, rng = words(3), np.random.default_rng(shift)
    count = rows.count(base.size, width, phase)
    by_row, by_column = (rng.integers(-128, 128, n).astype(np.int8) for n in (count, width))
    found = np.empty_like(base)
    rows.predict(base, width, phase, shift, by_row, by_column, found)
    assert found.tobytes() == moved(base, width, phase, shift, by_row, by_column).tobytes()


def test_words_that_move_with_their_rows_and_columns_are_the_same_everywhere() -> None:
    rng = np.random.default_rng(9)
    by_row, by_column = (rng.integers(-128, 128, n).astype(np.int8) for n in (12, 384))
    found = np.empty(4096, np.uint32)
    rows.predict(words(3), 384, 100, 15, by_row, by_column, found)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == "ad5ebe73b76b3220"


@pytest.mark.parametrize(("width", "phase"), [(96, 0), (96, 95), (50, 7)])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_the_moves_of_rows_and_columns_are_found(width: int, phase: int, size: int) -> None:
    """Of whole units, in a matrix that moved by nothing else; of more than a byte holds, to the nearest shift."""
    rng, count = np.random.default_rng(size), 4000
    base = rng.integers(0x30000000, 0x38000000, count).astype(np.uint32)
    by_row = rng.integers(-25, 26, rows.count(count, width, phase)) * size
    by_column = rng.integers(-3, 4, width)
    by_column[-1] -= by_column.sum()  # so that rows are told from columns
    place = phase + np.arange(count)
    new = (base + ((by_row[place // width] + by_column[place % width]) << rows.UNIT_BITS)).astype(np.uint32)
    shift, found_rows, found_columns = rows.fit(new, base, width, phase)
    predicted = np.empty_like(base)
    rows.predict(base, width, phase, shift, found_rows, found_columns, predicted)
    off = np.abs(new.astype(np.int64) - predicted.astype(np.int64)) >> rows.UNIT_BITS
    assert shift == (rows.UNIT_BITS if size < 20 else rows.UNIT_BITS + 2)
    assert np.median(off) <= (1 if size < 20 else 4)
