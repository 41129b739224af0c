"""The look that a commit in haste takes at a chunk."""

from __future__ import annotations

import numpy as np
import pytest

from castore import dtypes
from castore.codecs import PLANES, SUB_PLANES, XOR_PLANES
from castore.codecs.choice import FAST_WORTHWHILE, GLANCE_WORTHWHILE
from castore.codecs.estimate import estimate, glance

FLOAT32 = dtypes.by_name("float32")
LIMIT = GLANCE_WORTHWHILE * FAST_WORTHWHILE
_random = np.random.default_rng(3)
BEFORE = _random.standard_normal(1 << 17, np.float32)
NOISE = _random.standard_normal(1 << 17, np.float32)


def raw(values: np.ndarray) -> memoryview:
    return memoryview(values.astype(np.float32)).cast("B")


@pytest.mark.parametrize(
    ("after", "is_delta"),
    [
        (BEFORE, True),
        (np.where(np.abs(NOISE) > 3, NOISE, BEFORE), True),  # one value in 370 is another one
        (np.concatenate([BEFORE[: 3 << 15], NOISE[3 << 15 :]]), True),  # a quarter is new
        (BEFORE * (1 + 1e-6 * NOISE), True),
        (BEFORE * (1 + 1e-2 * NOISE), False),
        (NOISE, False),
    ],
)
def test_what_moved_little_is_seen_and_what_moved_far_is_left(after: np.ndarray, is_delta: bool) -> None:
    fraction, codec = glance(raw(after), FLOAT32, raw(BEFORE))
    assert (fraction < LIMIT) == is_delta
    assert codec in ((XOR_PLANES, SUB_PLANES) if is_delta else (PLANES, XOR_PLANES, SUB_PLANES))
    all_of_it = estimate(raw(after), FLOAT32, raw(BEFORE))
    assert (min(all_of_it.values()) < LIMIT) == is_delta  # a larger sample, and no way left out
    if is_delta:
        assert fraction == pytest.approx(min(all_of_it.values()), abs=0.05)


def test_without_a_base_only_what_is_small_by_itself_is_seen() -> None:
    assert glance(raw(NOISE), FLOAT32, None)[0] > LIMIT
    fraction, codec = glance(raw(np.round(NOISE)), FLOAT32, None)
    assert fraction < LIMIT and codec == PLANES


def test_what_is_half_noise_and_half_nothing_is_looked_at() -> None:
    half = np.where(np.arange(1 << 17) % 2048 < 1024, BEFORE, NOISE)
    assert glance(raw(half), FLOAT32, raw(BEFORE))[0] == pytest.approx(
        min(estimate(raw(half), FLOAT32, raw(BEFORE)).values()), abs=0.1
    )


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float8_e4m3fn"])
def test_words_of_any_width_are_judged(dtype: str) -> None:
    kind = dtypes.by_name(dtype)
    noise = memoryview(_random.bytes(1 << 19))
    assert glance(noise, kind, None)[0] > LIMIT
    assert glance(noise, kind, noise)[0] < 0.1
