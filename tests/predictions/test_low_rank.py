"""Matrices whose differences have much in common from row to row: repack stores what they have in common once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import castore
from castore import codecs
from castore.codecs import choice, low_rank, predicted
from castore.codecs.row_column import Rows
from castore.dtypes import by_name
from tests.predictions.test_arithmetic import finished, floats, flushed, words
from tests.samples import assert_sound

F32 = by_name("float32")
HEIGHT, WIDTH, RANK = 300, 200, 6
Words = NDArray[np.uint32]


def step(seed: int, share: float = 1.0, noise: float = 0.05) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A matrix, and what became of it: a share of it, something of low rank, and some noise."""
    rng = np.random.default_rng(seed)
    before = rng.standard_normal((HEIGHT, WIDTH)) * 0.05
    change = rng.standard_normal((HEIGHT, RANK)) @ rng.standard_normal((RANK, WIDTH)) * 1e-3
    after = share * before + change + noise * change.std() * rng.standard_normal(before.shape)
    return before.astype(np.float32), after.astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    choice.choose(bytes(choice.WARM_BYTES), F32, None)
    before, after = (one.tobytes() for one in step(0))
    choice.choose(after, F32, before, rows=Rows(WIDTH, 0), low_rank=True)


def back(payload: bytes, base: bytes) -> bytes:
    out = bytearray(len(base))
    predicted.CODEC.decode_from(payload, F32, memoryview(out), [memoryview(base)])
    return bytes(out)


@pytest.mark.parametrize(("share", "phase"), [(1.0, 0), (1.0, 1), (0.4, WIDTH - 1)])
def test_what_rows_have_in_common_is_stored_once(share: float, phase: int) -> None:
    before, after = (one.reshape(-1)[phase:-50].tobytes() for one in step(1, share))
    plain = len(choice.choose(after, F32, before).payload)
    encoded = choice.choose(after, F32, before, rows=Rows(WIDTH, phase), low_rank=True)
    assert (encoded.codec_id, encoded.is_delta, encoded.payload[0]) == (codecs.PREDICTED, True, predicted.LOW_RANK)
    assert len(encoded.payload) < 0.92 * plain
    assert back(bytes(encoded.payload), before) == after


def test_a_moving_average_with_nothing_of_its_past_stands_on_it_for_its_rank() -> None:
    before, after = (one.tobytes() for one in step(2, share=0.0))
    assert not choice.choose(after, F32, before).is_delta
    assert choice.choose(after, F32, before, rows=Rows(WIDTH, 0), low_rank=True).codec_id == codecs.PREDICTED


def test_noise_is_left_to_a_plain_delta() -> None:
    before, after = (one.tobytes() for one in step(3, noise=5.0))
    assert choice.choose(after, F32, before, rows=Rows(WIDTH, 0), low_rank=True).codec_id == codecs.ORDERED_DELTA


@pytest.mark.parametrize("odd", [np.nan, np.inf, 3e38])
def test_words_that_no_sum_can_hold_come_back(odd: float) -> None:
    before, after = step(4)
    after[5, 7], before[9, 9] = odd, -odd
    encoded = choice.choose(after.tobytes(), F32, before.tobytes(), rows=Rows(WIDTH, 0), low_rank=True)
    assert encoded.is_delta
    payload = bytes(encoded.payload)
    if encoded.codec_id == codecs.PREDICTED:
        assert back(payload, before.tobytes()) == after.tobytes()
    else:
        out = bytearray(before.tobytes())
        codecs.by_id(encoded.codec_id).decode(payload, F32, memoryview(out))
        assert out == after.tobytes()


@given(st.integers(1, 300), st.integers(1, 60), st.data())
def test_every_chunk_comes_back_whatever_its_rows(count: int, width: int, data: st.DataObject) -> None:
    phase = data.draw(st.integers(0, width - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    base = (rng.standard_normal(8 * count) * 10.0 ** rng.integers(-40, 30)).astype("<f4")
    raw = (base * 0.5 + rng.standard_normal(base.size).astype("<f4") * np.float32(data.draw(st.floats(0, 1)))).tobytes()
    plan = predicted.plan_low_rank(raw, F32, base.tobytes(), Rows(width, phase))
    assert width <= count or plan is None
    if plan is not None:
        assert back(bytes(predicted.CODEC.encode_as(raw, F32, plan)), base.tobytes()) == raw


@pytest.mark.parametrize(("c", "e"), [(1.0, 1e-6), (0.35, -3.0), (1e-38, 1e38), (float("nan"), 1.0)])
def test_the_prediction_is_ieee_arithmetic_in_a_fixed_order(c: float, e: float) -> None:
    base, factors = words(0), np.array((c, e), np.float32)
    rng = np.random.default_rng(5)
    width, phase, rank = 37, 11, 64
    height = -(-(phase + base.size) // width)
    left, right = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((height, rank), (rank, width)))
    out = np.empty_like(base)
    low_rank.Product(factors, left, right).predict(base, Rows(width, phase), out)
    sums = (left.astype(int) @ right.astype(int)).reshape(-1)[phase : phase + base.size]
    with np.errstate(all="ignore"):
        found = flushed(floats(base) * factors[0]) + flushed(factors[1] * sums.astype(np.float32))
    assert (out == finished(found, base)).all()


def test_the_bits_of_a_prediction_are_pinned() -> None:
    rng = np.random.default_rng(6)
    left, right = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((112, 8), (8, 37)))
    out = np.empty(4096, np.uint32)
    low_rank.Product(np.array((0.9, 1e-3), np.float32), left, right).predict(words(0), Rows(37, 11), out)
    assert hashlib.sha256(out.astype("<u4").tobytes()).hexdigest()[:16] == "fa41b44918c756ec"


def test_ranks_are_what_the_matrix_has() -> None:
    before, after = (one.reshape(-1).view(np.uint32) for one in step(7, noise=0.0))
    found = low_rank.products(after, before, Rows(WIDTH, 0))
    assert [one.right.shape[0] for one in found] == list(low_rank.RANKS)
    assert not low_rank.products(before, before, Rows(WIDTH, 0))  # nothing is left to foretell
    (narrow,) = low_rank.products(after[:16], before[:16], Rows(2, 0))
    assert narrow.left.shape == (8, 2)


def drifting() -> list[dict[str, torch.Tensor]]:
    """States whose weight changes by something of low rank, and a little noise."""
    rng = np.random.default_rng(8)
    weight = rng.standard_normal((1000, 384)) * 0.05
    states = []
    for _ in range(4):
        states.append({"w": torch.from_numpy(weight.astype(np.float32)), "b": torch.arange(12.0)})
        thin = rng.standard_normal((1000, RANK)) @ rng.standard_normal((RANK, 384))
        weight = weight + 1e-3 * (thin + 0.1 * rng.standard_normal(weight.shape))
    return states


def test_repack_finds_it_and_the_store_says_so(tmp_path: Path) -> None:
    states = drifting()
    with castore.open(tmp_path, create=True) as store:
        for state in states:
            store.commit(state)
        before = store.stats()
        assert '"low-rank"' not in (tmp_path / ".castore" / "castore.toml").read_text()
        store.repack()
        store.gc()
    assert '"low-rank"' in (tmp_path / ".castore" / "castore.toml").read_text()
    with castore.open(tmp_path) as store:
        after = store.stats()
        assert after.codecs["predicted"] > 0.5 * sum(after.codecs.values())
        assert after.stored_bytes < 0.97 * before.stored_bytes
        for number, state in enumerate(reversed(states)):
            loaded = store.load(f"main~{number}")
            assert all(torch.equal(loaded[key], state[key]) for key in state)
        assert_sound(store)


def test_repack_looks_for_nothing_of_the_kind_where_castore_toml_says_so(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        for state in drifting():
            store.commit(state)
    settings = tmp_path / ".castore" / "castore.toml"
    settings.write_text(settings.read_text().replace("low_rank = true", "low_rank = false"))
    with castore.open(tmp_path) as store:
        store.repack()
        assert store.stats().codecs.get("predicted", 0) == 0
        assert_sound(store)
    assert '"low-rank"' not in settings.read_text()
