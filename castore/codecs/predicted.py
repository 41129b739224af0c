"""Codec 8: differences, as codec 6 codes them, to a prediction that is calculated from one or several chunks.

    offset  bytes  field
    0       1      predictor
    1       1      n: number of factors
    2       4n     factors, float32
    ...     ...    of predictors 5 and 6 what `row_column` and `low_rank` say
    ...     ...    a payload of codec 6, whose base is the prediction

Predictors, with their bases in order and their factors (kernels/predict_native.py has the arithmetic, docs/format.md
its order of operations):

    1  adaptive-step  float32: weights, first moment, second moment; c, a, s, eps
    2  second-moment  float32: second moment, first moment before, first moment; 1-beta1, beta2, 1-beta2
    3  momentum-step  float32: weights, momentum; c, a
    4  rounded        bfloat16: float32 words
    5  row-column     float32: the same words some steps before
    6  low-rank       float32: the same words some steps before or after; c, e
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from castore.codecs import low_rank, ordered_delta, row_column
from castore.codecs.base import Buffer
from castore.codecs.byte_planes import as_words
from castore.codecs.row_column import Rows
from castore.dtypes import DType
from castore.errors import CorruptError
from castore.kernels import scratch
from castore.kernels.predict import Factors, predict
from castore.kernels.reference import Words

ADAPTIVE_STEP, SECOND_MOMENT, MOMENTUM_STEP, ROUNDED, ROW_COLUMN, LOW_RANK = range(1, 7)

_HEADER = struct.Struct("<BB")
_SAMPLE = 4096  # words that factors are fitted to


@dataclass(frozen=True, slots=True)
class _Predictor:
    name: str
    dtype: str
    bases: int
    base_width: int  # bytes of a base's word
    factors: int
    fitted: int  # so many of the first factors are fitted to the chunk; the rest are given


_PREDICTORS = {
    ADAPTIVE_STEP: _Predictor("adaptive_step", "float32", 3, 4, 4, 2),
    SECOND_MOMENT: _Predictor("second_moment", "float32", 3, 4, 3, 0),
    MOMENTUM_STEP: _Predictor("momentum_step", "float32", 2, 4, 2, 2),
    ROUNDED: _Predictor("rounded", "bfloat16", 1, 4, 0, 0),
    ROW_COLUMN: _Predictor("row_column", "float32", 1, 4, 0, 0),
    LOW_RANK: _Predictor("low_rank", "float32", 1, 4, 2, 0),
}


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a chunk may be predicted from. factors: those that are not fitted to the chunk, in order."""

    predictor: int
    bases: Sequence[Buffer]
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictedPlan:
    """A prediction, calculated, and how the differences to it are to be coded; this thread's scratch memory."""

    head: bytes
    predicted: memoryview
    plan: ordered_delta.Plan

    def fraction(self, raw_bytes: int) -> float:
        """What a chunk of so many bytes will take, of these."""
        return self.plan.fraction + len(self.head) / raw_bytes


@dataclass(frozen=True, slots=True)
class PredictedCodec:
    id: int = 8
    name: str = "predicted"
    is_delta: bool = True
    takes_bases: bool = True

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        raise ValueError(f"codec {self.name}: takes a prediction, see encode_as")

    def encode_as(self, raw: Buffer, dtype: DType, how: PredictedPlan) -> Buffer:
        """`raw` as the differences to a prediction that `plan` has calculated."""
        return ordered_delta.CODEC.encode_as(raw, dtype, how.predicted, how.plan, how.head)

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        raise ValueError(f"codec {self.name}: bases missing, see decode_from")

    def decode_from(self, payload: Buffer, dtype: DType, out: memoryview, bases: Sequence[memoryview]) -> None:
        """Write the raw bytes into `out` from the payload and the bases' raw bytes, in the record's order."""
        view = memoryview(payload)
        if len(view) < _HEADER.size:
            raise CorruptError("predicted record ends within its header")
        number, count = _HEADER.unpack_from(view)
        predictor = _PREDICTORS.get(number)
        end = _HEADER.size + 4 * count
        if predictor is None:
            raise CorruptError(f"unknown predictor {number}: the record is damaged, or a newer castore wrote it")
        fits = dtype.name == predictor.dtype and count == predictor.factors and len(out) % dtype.word == 0
        if not fits or len(view) < end:
            raise CorruptError("predicted record's header makes no sense")
        if len(bases) != predictor.bases or any(
            len(base) * dtype.word != len(out) * predictor.base_width for base in bases
        ):
            raise CorruptError("predicted record's bases do not fit it")
        factors = np.frombuffer(view[_HEADER.size : end], "<f4")
        words = np.frombuffer(out, f"<u{dtype.word}")
        given = [np.frombuffer(base, "<u4") for base in bases]
        if number == ROW_COLUMN:
            end += row_column.predict(view[end:], given[0], words)
        elif number == LOW_RANK:
            end += low_rank.predict(view[end:], factors, given[0], words)
        else:
            predict(predictor.name, given, factors, words)
        ordered_delta.CODEC.decode(view[end:], dtype, out)


def plan(raw: Buffer, dtype: DType, prediction: Prediction) -> PredictedPlan | None:
    """The prediction for `raw`, calculated; None where it does not apply: other dtypes, lengths that do not fit."""
    predictor = _PREDICTORS[prediction.predictor]
    if dtype.name != predictor.dtype or len(prediction.bases) != predictor.bases:
        return None
    if any(len(base) * dtype.word != len(raw) * predictor.base_width for base in prediction.bases) or not raw:
        return None
    words = as_words(raw, dtype)
    bases = [np.frombuffer(base, "<u4") for base in prediction.bases]
    factors = _factors(words, bases, prediction, predictor)
    predicted = scratch.array("predicted", words.size, words.dtype)
    predict(predictor.name, bases, factors, predicted)
    head = _HEADER.pack(prediction.predictor, factors.size) + factors.astype("<f4").tobytes()
    data = predicted.data.cast("B")
    return PredictedPlan(head, data, ordered_delta.plan(raw, dtype, data))


def _has_rows(raw: Buffer, dtype: DType, rows: Rows) -> bool:
    return dtype.name == "float32" and rows.width <= row_column.MOST_COLUMNS * len(raw) / dtype.word


def plan_rows(raw: Buffer, dtype: DType, base: Buffer, rows: Rows) -> PredictedPlan | None:
    """The prediction of `raw` from `base`, as long, by rows and columns; None where it does not apply: other dtypes,
    too few rows."""
    if not _has_rows(raw, dtype, rows):
        return None
    words = as_words(raw, dtype)
    predicted = scratch.array("predicted", words.size, words.dtype)
    tables = row_column.fit(words, as_words(base, dtype), rows, predicted)
    data = predicted.data.cast("B")
    return PredictedPlan(_HEADER.pack(ROW_COLUMN, 0) + tables, data, ordered_delta.plan(raw, dtype, data))


def plan_low_rank(raw: Buffer, dtype: DType, base: Buffer, rows: Rows) -> PredictedPlan | None:
    """The same by a matrix of low rank. It takes milliseconds for each MiB."""
    if not _has_rows(raw, dtype, rows):
        return None
    words, old = as_words(raw, dtype), as_words(base, dtype)
    predicted = scratch.array("predicted", words.size, words.dtype)
    data = predicted.data.cast("B")

    def planned(product: low_rank.Product) -> PredictedPlan:
        product.predict(old, rows, predicted)
        head = _HEADER.pack(LOW_RANK, product.factors.size) + product.factors.astype("<f4").tobytes()
        return PredictedPlan(head + product.packed(rows), data, ordered_delta.plan(raw, dtype, data))

    found = low_rank.products(words, old, rows)
    if not found:
        return None
    plans = [planned(product) for product in found]
    best = min(range(len(plans)), key=lambda number: plans[number].fraction(len(raw)))
    found[best].predict(old, rows, predicted)  # all of them wrote to the same memory
    return plans[best]


def _factors(words: Words, bases: Sequence[Words], prediction: Prediction, predictor: _Predictor) -> Factors:
    """All factors: c and a, in words = c * bases[0] + a * step, by least squares over a sample, and those given."""
    if not predictor.fitted:
        return np.array(prediction.factors, np.float32)
    stride = max(1, words.size // _SAMPLE)
    new, old, first = (array[::stride].view(np.float32).astype(np.float64) for array in (words, bases[0], bases[1]))
    if prediction.predictor == ADAPTIVE_STEP:
        s, eps = prediction.factors
        with np.errstate(all="ignore"):
            first = first / (np.sqrt(bases[2][::stride].view(np.float32).astype(np.float64)) / s + eps)
    good = np.isfinite(new) & np.isfinite(old) & np.isfinite(first)
    new, old, first = (array[good] for array in (new, old, first))
    if not first.any():
        return np.array((1.0, 0.0, *prediction.factors), np.float32)
    matrix = np.array([[old @ old, old @ first], [old @ first, first @ first]])
    with np.errstate(all="ignore"):
        decay, step = np.linalg.pinv(matrix, hermitian=True) @ np.array([old @ (new - old), first @ (new - old)])
    found = np.array((1.0 + decay, step, *prediction.factors), np.float32)
    return found if np.isfinite(found).all() else np.array((1.0, 0.0, *prediction.factors), np.float32)


CODEC = PredictedCodec()
