"""The codec of a chunk follows from what its bytes cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from castore import codecs
from castore.codecs import choice
from castore.dtypes import BYTES, by_name

F32, BF16, I64 = by_name("float32"), by_name("bfloat16"), by_name("int64")
RNG = np.random.default_rng(11)
COUNT = 1 << 17

pytestmark = pytest.mark.usefixtures("warm")  # what a process chooses before that: test_codec_loading.py


def weights() -> NDArray[np.float32]:
    return (RNG.standard_normal(COUNT) * 0.02).astype("<f4")


def stepped(before: NDArray[np.float32]) -> NDArray[np.float32]:
    """The weights after an optimizer's step."""
    step: NDArray[np.float32] = before + np.float32(1e-4) * RNG.standard_normal(before.size).astype("<f4")
    return step


def bf16(values: NDArray[np.float32]) -> bytes:
    return (values.view("<u4") >> 16).astype("<u2").tobytes()


def fraction(encoded: choice.Encoded, raw: bytes) -> float:
    return len(encoded.payload) / len(raw)


@pytest.mark.parametrize(("dtype", "most"), [(F32, 0.835), (BF16, 0.665)], ids=["float32", "bfloat16"])
def test_exponents_of_trained_weights_are_coded(dtype: Any, most: float) -> None:
    raw = weights().tobytes() if dtype is F32 else bf16(weights())
    encoded = choice.choose(raw, dtype, None)
    assert encoded.codec_id == codecs.EXPONENTS
    assert fraction(encoded, raw) < most


def test_floats_with_structure_below_their_exponents_are_split_into_planes() -> None:
    raw = bytes(np.arange(COUNT, dtype="<f4"))
    assert choice.choose(raw, F32, None).codec_id == codecs.PLANES
    steps = np.round(weights() * 1000).astype("<f4").tobytes()
    assert choice.choose(steps, F32, None).codec_id == codecs.PLANES


def test_words_of_one_byte_are_split_into_planes() -> None:
    skewed = RNG.integers(0, 20, COUNT).astype(np.uint8).tobytes()
    assert choice.choose(skewed, by_name("float8_e4m3fn"), None).codec_id == codecs.PLANES


@pytest.mark.parametrize(("dtype", "most"), [(F32, 0.6), (BF16, 0.2)], ids=["float32", "bfloat16"])
def test_weights_one_step_after_their_parent_are_a_delta(dtype: Any, most: float) -> None:
    before = weights()
    after = stepped(before)
    raw, base = (after.tobytes(), before.tobytes()) if dtype is F32 else (bf16(after), bf16(before))
    encoded = choice.choose(raw, dtype, base)
    assert encoded.codec_id == codecs.ORDERED_DELTA
    assert fraction(encoded, raw) < most


def test_an_unrelated_base_is_not_used() -> None:
    raw = weights().tobytes()
    assert choice.choose(raw, F32, weights().tobytes()).codec_id == codecs.EXPONENTS


def test_a_base_of_another_length_is_not_used() -> None:
    raw = weights().tobytes()
    assert choice.choose(raw, F32, raw[:-4]).codec_id == codecs.EXPONENTS


@pytest.mark.parametrize("dtype", [F32, BF16, I64, BYTES, by_name("float8_e4m3fn")], ids=lambda dtype: dtype.name)
def test_noise_is_stored_raw(dtype: Any) -> None:
    raw = RNG.bytes(1 << 18)
    encoded = choice.choose(raw, dtype, RNG.bytes(1 << 18))
    assert encoded.codec_id == codecs.RAW
    assert encoded.payload == raw


@pytest.mark.parametrize("size", [64, 1024, 8192, 1 << 20])
@pytest.mark.parametrize("dtype", [F32, BF16, I64, BYTES], ids=lambda dtype: dtype.name)
def test_a_constant_chunk_costs_next_to_nothing(dtype: Any, size: int) -> None:
    raw = np.float32(1.0).tobytes() * (size // 4)
    assert len(choice.choose(raw, dtype, None).payload) <= max(48, size // 4000)


def test_a_delta_that_saves_little_is_written_standalone() -> None:
    before = weights()
    half = before.copy()
    # The sign and exponent planes are all that a delta could save on: scramble the rest of every word.
    half.view("<u4")[:] = (before.view("<u4") & 0xFF000000) | (RNG.integers(0, 1 << 24, COUNT, np.uint32))
    mixed = np.where(RNG.random(COUNT) < 0.35, before, weights()).astype("<f4")
    for raw in (half.tobytes(), mixed.tobytes()):
        encoded = choice.choose(raw, F32, before.tobytes())
        alone = codecs.by_id(codecs.PLANES).encode(raw, F32, None)
        assert encoded.is_delta == (len(encoded.payload) < choice.DELTA_WORTHWHILE * len(alone))


def test_chunks_too_small_for_tables_stay_in_planes() -> None:
    for count in (choice.TOKENS_BYTES // 4 - 1, choice.TOKENS_BYTES // 4):
        before = weights()[:count]
        small = count < choice.TOKENS_BYTES // 4
        delta = choice.choose(stepped(before).tobytes(), F32, before.tobytes()).codec_id
        assert (delta in (codecs.XOR_PLANES, codecs.SUB_PLANES)) == small
        assert (choice.choose(before.tobytes(), F32, None).codec_id == codecs.PLANES) == small


@pytest.mark.parametrize("dtype", [by_name("int16"), by_name("int32")], ids=lambda dtype: dtype.name)
def test_integers_that_moved_are_an_ordered_delta(dtype: Any) -> None:
    kind = f"<u{dtype.word}"
    before = np.frombuffer(RNG.bytes(COUNT * dtype.word), kind)
    after = before + (RNG.geometric(0.03, COUNT) * RNG.choice([-1, 1], COUNT)).astype(kind)
    encoded = choice.choose(after.tobytes(), dtype, before.tobytes())
    assert encoded.codec_id == codecs.ORDERED_DELTA
    assert fraction(encoded, after.tobytes()) < 0.96 / dtype.word


def test_integers_that_follow_a_pattern_are_found() -> None:
    raw = np.arange(COUNT, dtype="<i8").tobytes()
    assert fraction(choice.choose(raw, I64, None), raw) < 0.02
    tokens = RNG.integers(0, 50_000, COUNT).astype("<i8").tobytes()
    assert fraction(choice.choose(tokens, I64, None), tokens) < 0.27


def test_rows_that_repeat_are_found_though_their_bytes_look_random() -> None:
    row = weights()[:700].tobytes()
    raw = row * 200
    assert fraction(choice.choose(raw, F32, None), raw) < 0.05


def test_a_few_changed_elements_cost_a_few_bytes() -> None:
    before = weights()
    after = before.copy()
    after[[5, 70_000]] *= 2
    encoded = choice.choose(after.tobytes(), F32, before.tobytes())
    assert encoded.is_delta
    assert fraction(encoded, after.tobytes()) < 0.0015


def test_text_is_compressed_as_bytes() -> None:
    raw = (" ".join(str(i * i) for i in range(20_000))).encode()
    for part in (raw, raw[:1000]):
        encoded = choice.choose(part, BYTES, None)
        assert encoded.codec_id == codecs.ZSTD
        assert fraction(encoded, part) < 0.8
