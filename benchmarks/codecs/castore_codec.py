"""castore behind the interface of a coder: the only module of the benchmark that knows castore's codecs."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.codecs.coder import Peer, Threading
from benchmarks.codecs.streams import CHUNK, Stream, Words, as_bytes
from castore.codecs import EXPONENTS, ORDERED_DELTA, PREDICTED, by_id, ordered_delta, predicted, row_column
from castore.codecs.choice import Encoded, choose, choose_predicted
from castore.codecs.predicted import Prediction
from castore.codecs.row_column import Rows
from castore.dtypes import BY_NAME, DType
from castore.kernels import delta_reference, exponent_reference

APART = "castore apart"
REPACK = "castore repack"
BY_ITSELF = "castore, by itself"
DTYPES = {4: BY_NAME["float32"], 2: BY_NAME["bfloat16"]}  # by bytes of a word


class Castore:
    """The choice of a codec for each chunk, and that codec: what a commit and a load call."""

    def __init__(
        self, with_base: bool, threading: Threading = "pool", with_others: bool = True, repack: bool = False
    ) -> None:
        """with_base: use the older checkpoint. with_others: and the other streams of the state. repack: take the time
        that repack takes."""
        self.threading = threading
        self.label = "chosen" if with_base else "alone"
        self._with_base = with_base
        self._with_others = with_others
        self._repack = repack
        _warm_up()

    def unit(self, width: int) -> int | None:
        return CHUNK

    def encode(self, part: Stream, threads: int) -> Encoded:
        return (
            _chosen(self._seen(part), self._repack)
            if self._with_base
            else choose(as_bytes(part.new), _dtype(part), None)
        )

    def keep(self, payload: Encoded) -> Encoded:
        return Encoded(payload.codec_id, bytes(payload.payload), payload.is_delta)

    def size(self, payload: Encoded) -> int:
        return len(payload.payload)

    def decode(self, payload: Encoded, part: Stream, out: Words, threads: int) -> None:
        if payload.codec_id == PREDICTED:
            prediction = _prediction(self._seen(part))
            bases = [memoryview(base) for base in (prediction.bases if prediction else [as_bytes(part.old)])]
            predicted.CODEC.decode_from(payload.payload, _dtype(part), as_bytes(out), bases)
            return
        if payload.is_delta:
            out[:] = part.old
        by_id(payload.codec_id).decode(payload.payload, _dtype(part), as_bytes(out))

    def _seen(self, part: Stream) -> Stream:
        return part if self._with_others else replace(part, others={})


def _chosen(part: Stream, repack: bool = False) -> Encoded:
    prediction = _prediction(part)
    foreseen = choose_predicted(as_bytes(part.new), _dtype(part), prediction) if prediction is not None else None
    if foreseen is not None:
        return foreseen
    together = part.role == "exp_avg_sq"
    rows = _rows(part) if together or repack else None
    return choose(as_bytes(part.new), _dtype(part), as_bytes(part.old), rows, low_rank=not together)


def _rows(part: Stream) -> Rows | None:
    """How a chunk lies in its matrix."""
    place = part.places[0] if len(part.places) == 1 else None
    return None if place is None else Rows(place.width, place.column)


def _prediction(part: Stream) -> Prediction | None:
    """What castore finds by a state's structure: a copy's master; one step apart, an optimizer's own formula."""
    if part.role == "weights" and "masters" in part.others:
        return Prediction(predicted.ROUNDED, [as_bytes(part.others["masters"].new)])
    if part.steps[1] - part.steps[0] != 1 or part.new.itemsize != 4:
        return None
    first, second, momentum = (part.others.get(name) for name in ("exp_avg", "exp_avg_sq", "momentum_buffer"))
    old = as_bytes(part.old)
    if part.role in ("weights", "masters") and first is not None and second is not None:
        correction = math.sqrt(1.0 - part.options["betas"][1] ** part.steps[1])
        bases = [old, as_bytes(first.new), as_bytes(second.new)]
        return Prediction(predicted.ADAPTIVE_STEP, bases, (correction, part.options["eps"]))
    if part.role == "weights" and momentum is not None:
        return Prediction(predicted.MOMENTUM_STEP, [old, as_bytes(momentum.new)])
    if part.role == "exp_avg_sq" and first is not None:
        beta1, beta2 = part.options["betas"]
        bases = [old, as_bytes(first.old), as_bytes(first.new)]
        return Prediction(predicted.SECOND_MOMENT, bases, (1.0 - beta1, beta2, 1.0 - beta2))
    return None


@cache
def _warm_up() -> None:
    """Offer castore enough for it to compile all kernels: a process's first few chunks get by without some."""
    generator = np.random.default_rng(0)
    for width in DTYPES:
        words = generator.integers(0, 1 << 16, CHUNK * 8 // width, np.uint32)
        for _ in range(8):
            choose(as_bytes(words + 1), DTYPES[width], as_bytes(words))


def castore_peers() -> list[Peer]:
    return [
        Peer("castore", "chunks of 256 Ki elements, each with the codec that castore chooses", (Castore(True),)),
        Peer(
            BY_ITSELF, "castore without the state's other streams", (Castore(True, with_others=False),), reference=True
        ),
        Peer(REPACK, "castore as `castore repack` codes", (Castore(True, repack=True),), reference=True),
        Peer("castore alone", "the same as if there were no older checkpoint", (Castore(False),), reference=True),
        Peer(APART, "castore with two processes for two threads", (Castore(True, "processes"),), reference=True),
    ]


def ideal_bytes(part: Stream) -> float | None:
    """What the entropy of castore's own model of a chunk comes to, its tables not counted.

    That is the empirical entropy of the tokens given their contexts, plus the raw bits. Where no coder of tokens was
    chosen, what the chosen codec took.
    """
    encoded = _chosen(part)
    if encoded.codec_id == EXPONENTS:
        tokens = exponent_reference.split(part.new)[-1]
        return (part.new.itemsize - 1) * part.new.size + _entropy(np.zeros_like(tokens), tokens) / 8
    if encoded.codec_id not in (ORDERED_DELTA, PREDICTED):
        return float(len(encoded.payload))
    base: Words = part.old
    prediction = _prediction(part) if encoded.codec_id == PREDICTED else None
    if prediction is not None:
        plan = predicted.plan(as_bytes(part.new), _dtype(part), prediction)
        assert plan is not None
        base = np.frombuffer(bytes(plan.predicted), part.new.dtype)
    elif encoded.codec_id == PREDICTED:
        base = np.empty_like(part.old)
        rows = _rows(part)
        assert rows is not None
        row_column.fit(part.new, part.old, rows, base)
    fit = ordered_delta.plan(as_bytes(part.new), _dtype(part), as_bytes(base)).fit
    y = delta_reference.values(part.new, base, fit)
    lengths = np.frexp(y.astype(np.float64))[1].astype(np.int64) - 1 - fit.low
    lengths[y < 1 << fit.low] = fit.tokens(y.dtype) - 1
    exponents = (base & base.dtype.type((1 << (8 * base.itemsize - 1)) - 1)) >> base.dtype.type(fit.mantissa)
    contexts = np.clip(fit.top - exponents.astype(np.int64), 0, None) >> fit.shift
    raw = float((lengths + fit.low).sum())
    return (raw + _entropy(np.minimum(contexts, fit.last), lengths)) / 8


def _entropy(contexts: NDArray[Any], tokens: NDArray[Any]) -> float:
    """Bits: the empirical entropy of the tokens, given their contexts, times their number."""
    counts = np.zeros((int(contexts.max()) + 1, int(tokens.max()) + 1), np.float64)
    np.add.at(counts, (contexts, tokens), 1.0)
    totals = counts.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(-np.nansum(counts * np.log2(counts / totals)))


def _dtype(part: Stream) -> DType:
    return DTYPES[part.new.itemsize]
