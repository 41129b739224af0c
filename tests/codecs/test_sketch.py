"""A sketch of a chunk tells which of others it is near to, and what a delta to it would save."""

from __future__ import annotations

import numpy as np
import pytest

from castore.codecs import sketch
from castore.codecs.choice import choose
from castore.dtypes import DType, by_name
from castore.kernels.reference import Words
from tests.codecs.words import edges, kind, noise

FLOATS = [by_name(name) for name in ("float32", "bfloat16", "float16", "complex64")]
F32, BF16 = FLOATS[0], FLOATS[1]
COUNT = 1 << 16


def trained(dtype: DType, seed: int = 0, step: float = 0.0, size: float = 0.02) -> bytes:
    """Weights, and what a step of that typical size made of them."""
    values = size * np.random.default_rng(seed).standard_normal(COUNT)
    values += step * np.random.default_rng(seed + 1000).standard_normal(COUNT)
    if dtype is F32:
        return values.astype("<f4").tobytes()
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def made(raw: bytes | Words, dtype: DType) -> sketch.Values:
    found = sketch.sketch(raw if isinstance(raw, bytes) else raw.tobytes(), dtype)
    assert found is not None and len(found) == sketch.size(dtype)
    return sketch.values(found, dtype)


@pytest.mark.parametrize("step", [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
@pytest.mark.usefixtures("warm")
def test_what_it_says_of_a_delta_is_what_the_codecs_find(dtype: DType, step: float) -> None:
    raw, base = trained(dtype, step=step), trained(dtype)
    alone = len(choose(raw, dtype, None).payload)
    saved = 1 - len(choose(raw, dtype, base).payload) / alone
    assert max(sketch.saves(made(raw, dtype), made(base, dtype), dtype), 0) == pytest.approx(saved, abs=0.08)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_unrelated_weights_save_nothing(dtype: DType) -> None:
    others = [made(trained(dtype, seed, size=size), dtype) for seed in range(1, 40) for size in (0.01, 0.02, 0.1)]
    own = made(trained(dtype), dtype)
    assert max(sketch.saves(own, other, dtype) for other in others) < 0.05


@pytest.mark.parametrize("count", [1, 5, 64, 65, 1000])
@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_the_nearest_comes_first_however_many_there_are(dtype: DType, count: int) -> None:
    rng = np.random.default_rng(5)
    own = made(trained(dtype), dtype)
    others = own + rng.integers(1 << 10, 1 << 12, (count, sketch.WORDS)) * rng.choice([-1, 1], (count, sketch.WORDS))
    others[count // 2] = own[0] + 1
    found = sketch.nearest(own, others)
    assert found[0] == count // 2
    assert len(set(found.tolist())) == len(found) <= count
    assert count > 64 or len(found) == count


def test_its_words_are_no_column_of_a_matrix() -> None:
    for columns in (64, 768, 1024, 4096, 16384):
        places = np.arange(1 << 18, dtype="<u4")
        taken = np.frombuffer(sketch.sketch(places.tobytes(), F32) or b"", "<u4")
        assert np.unique(taken % columns).size > sketch.WORDS // 2
        assert np.unique(taken).size == sketch.WORDS
        assert (np.diff(taken.astype(np.int64)) > 0).all()


@pytest.mark.parametrize("count", [64, 65, 127, 1000, 4099])
def test_chunks_of_any_length_have_one(count: int) -> None:
    assert made(noise(F32, count, 1), F32).shape == (1, sketch.WORDS)


def test_what_is_constant_has_none() -> None:
    assert sketch.sketch(bytes(4096), F32) is None
    assert sketch.sketch(b"\0\0\x80\x3f" * 1024, F32) is None


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_no_bits_are_too_hard(dtype: DType) -> None:
    hard, top = edges(dtype, 1024), kind(dtype).type(1 << (8 * dtype.word - 1))
    zeros = (noise(dtype, 1024, 3) & top).astype(kind(dtype))
    rows = [made(words, dtype) for words in (hard, noise(dtype, 1024, 2), zeros, ~hard, hard[::-1].copy())]
    for own in rows:
        for other in rows:
            assert -10 < sketch.saves(own, other, dtype) <= 1
        assert sketch.nearest(own, np.concatenate(rows)).size == len(rows)
        assert np.isfinite(own).all()


@pytest.mark.parametrize("dtype", [F32, BF16], ids=lambda dtype: dtype.name)
def test_neighbours_in_the_order_of_floats_are_one_apart(dtype: DType) -> None:
    sign = kind(dtype).type(1 << (8 * dtype.word - 1))
    words = np.arange(100, 100 + 1024, dtype=kind(dtype))
    for one in (words, words | sign):
        assert (abs(made(one + one.dtype.type(1), dtype) - made(one, dtype)) == 1).all()
