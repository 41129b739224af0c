"""castore and the independent reader make the same of every payload: the same bytes, or damage."""

from __future__ import annotations

import numpy as np
import pytest
from independent_codecs import FormatError
from independent_codecs import decode as decode_independently

from castore import codecs
from castore.codecs import choice, ordered_delta, predicted
from castore.dtypes import BY_CODE, DType, by_name
from castore.errors import CorruptError
from castore.kernels.predict import predict
from tests.codecs.hostile import damaged_rarely, forged_product, forged_rows, honest, lying, takes
from tests.codecs.words import edges, noise, pairs, trained

DTYPES = list(BY_CODE.values())
F32, BF16 = by_name("float32"), by_name("bfloat16")


def ours(codec_id: int, dtype: DType, payload: bytes, before: bytes) -> bytes | None:
    out = bytearray(before)
    try:
        codecs.by_id(codec_id).decode(payload, dtype, memoryview(out))
    except CorruptError:
        return None
    return bytes(out)


def theirs(codec_id: int, dtype: DType, payload: bytes, raw_bytes: int, bases: list[bytes]) -> bytes | None:
    try:
        return decode_independently(codec_id, dtype.code, payload, raw_bytes, bases)
    except FormatError:
        return None


@pytest.mark.parametrize("codec_id", [codecs.RESIDUAL, codecs.ORDERED_DELTA, codecs.EXPONENTS])
def test_payloads_that_lie_mean_the_same_to_both_readers(codec_id: int) -> None:
    dtypes, taken = [dtype for dtype in DTYPES if takes(codec_id, dtype)], 0
    for case in range(400):
        rng = np.random.default_rng([6, codec_id, case])
        dtype = dtypes[case % len(dtypes)]
        payload, before = lying(codec_id, dtype, rng)
        expected = ours(codec_id, dtype, payload, before)
        bases = [before] if codecs.by_id(codec_id).is_delta else []
        assert theirs(codec_id, dtype, payload, len(before), bases) == expected, (case, dtype.name)
        taken += expected is not None
    assert taken > 30


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_chunks_of_every_kind_read_back_independently(dtype: DType) -> None:
    count = 531 * dtype.width // dtype.word
    for name, (words, base) in pairs(dtype, count).items():
        raw, old = words.tobytes(), base.tobytes()
        for codec_id in (codecs.ORDERED_DELTA, codecs.EXPONENTS, codecs.PLANES, codecs.XOR_PLANES, codecs.SUB_PLANES):
            if takes(codec_id, dtype):
                bases = [old] if codecs.by_id(codec_id).is_delta else []
                payload = honest(codec_id, raw, dtype, old)
                assert theirs(codec_id, dtype, payload, len(raw), bases) == raw, (name, codec_id)


def test_what_a_warm_process_chooses_reads_back_independently() -> None:
    choice.choose(bytes(choice.WARM_BYTES), F32, None)
    after, before = trained(1 << 14)
    chosen = set()
    for dtype, new, old in ((F32, after, before), (BF16, (after >> 16).astype("<u2"), (before >> 16).astype("<u2"))):
        for base in (None, old.tobytes()):
            encoded = choice.choose(new.tobytes(), dtype, base)
            chosen.add(encoded.codec_id)
            bases = [base] if encoded.is_delta and base is not None else []
            assert theirs(encoded.codec_id, dtype, bytes(encoded.payload), new.nbytes, bases) == new.tobytes()
    assert chosen == {codecs.ORDERED_DELTA, codecs.EXPONENTS}


@pytest.mark.parametrize("predictor", [predicted.ROW_COLUMN, predicted.LOW_RANK])
def test_rows_and_columns_that_lie_mean_the_same_to_both_readers(predictor: int) -> None:
    codec, taken = predicted.CODEC, 0
    for case in range(500):
        rng = np.random.default_rng([7, case])
        inner, base = lying(codecs.ORDERED_DELTA, F32, rng)
        if predictor == predicted.ROW_COLUMN:
            head = bytes((predictor, 0)) + damaged_rarely(forged_rows(len(base) // 4, rng), rng)
        else:
            factors = rng.choice([0.0, 1.0, 1e-30, 1e30, np.inf, np.nan], 2).astype("<f4")
            head = bytes((predictor, 2)) + factors.tobytes() + damaged_rarely(forged_product(len(base) // 4, rng), rng)
        payload = head + inner
        out = bytearray(len(base))
        expected: bytes | None
        try:
            codec.decode_from(payload, F32, memoryview(out), [memoryview(base)])
            expected = bytes(out)
        except CorruptError:
            expected = None
        assert theirs(codecs.PREDICTED, F32, payload, len(base), [base]) == expected, case
        taken += expected is not None
    assert taken > 30


PREDICTORS = {1: ("adaptive_step", 3, 4), 2: ("second_moment", 3, 3), 3: ("momentum_step", 2, 2), 4: ("rounded", 1, 0)}


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_predictions_read_back_independently(predictor: int) -> None:
    name, number, factors = PREDICTORS[predictor]
    dtype, codec = BF16 if predictor == 4 else F32, codecs.by_id(codecs.PREDICTED)
    weights = [trained(600)[k % 2] for k in range(3)]
    hard = [edges(F32, 600), noise(F32, 600, 1), np.roll(edges(F32, 600), 7)]
    small = [words & np.uint32(0x83FFFFFF) for words in hard]  # around the least number that counts
    for bases in (weights, hard, small):
        given = np.random.default_rng(3).normal(size=factors).astype("<f4")
        found = np.empty(600, f"<u{dtype.word}")
        predict(name, bases[:number], given, found)
        words = found + np.arange(600, dtype=found.dtype) % found.dtype.type(5)
        inner = bytes(ordered_delta.CODEC.encode(words.tobytes(), dtype, found.tobytes()))
        payload = bytes((predictor, factors)) + given.tobytes() + inner
        raw_bases = [base.tobytes() for base in bases[:number]]
        assert theirs(codecs.PREDICTED, dtype, payload, words.nbytes, raw_bases) == words.tobytes()
        out = bytearray(words.nbytes)
        assert isinstance(codec, predicted.PredictedCodec)
        codec.decode_from(payload, dtype, memoryview(out), [memoryview(base) for base in raw_bases])
        assert out == words.tobytes()
