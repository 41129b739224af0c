"""Which codec a chunk gets: the one that a sample of it says is smallest, never one on faith.

Chunks under TINY_BYTES, and plain bytes, load neither NumPy nor Numba: one zstd call, or none. Floats are judged by
the entropies of a sample's planes, integers by encoding a sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from castore.codecs import (
    EXPONENTS,
    ORDERED_DELTA,
    PLANES,
    PREDICTED,
    RAW,
    SUB_PLANES,
    XOR_PLANES,
    ZSTD,
    by_id,
    zstd_frames,
)
from castore.codecs.base import Buffer
from castore.dtypes import BYTES, DType

if TYPE_CHECKING:
    from castore.codecs.byte_planes import PlaneCodec
    from castore.codecs.predicted import PredictedPlan, Prediction
    from castore.codecs.row_column import Rows

TINY_BYTES = 4096  # below this a footer's entry weighs more than what a better codec saves
TOKENS_BYTES = 16 * 1024  # from here on the tables of `ordered-delta` and `exponents` weigh little
WARM_BYTES = 4 * 1024 * 1024  # of such chunks that a process offers before it compiles their kernels
DELTA_WORTHWHILE = 0.95  # of the best standalone size; a delta costs its reader the base
PREDICTION_WORTHWHILE = 0.25  # of the raw size
ROWS_WORTHWHILE = 0.99  # of a plain delta's size
LOW_RANK_WORTHWHILE = 0.985  # of what is best without it: it costs its writer milliseconds, and its reader up to two
ROWS_AT_BEST = 1.25  # of the limit, that a plain delta may take if rows and columns are to bring it below
STANDALONE_WORTHWHILE = 0.98  # of the raw size
FAST_WORTHWHILE = 0.5  # of the raw size, where there is no time to code what saves less
HASTY_WARM_BYTES = 64 * 1024 * 1024  # of chunks that take less than that, before a process in haste loads kernels,
HASTY_WARM_SHARE = 0.1  # if they are at least so much of all that it was offered: a few in each commit are not worth it
UNAIDED_WORTHWHILE = 0.25  # of the raw size, that planes may take where no kernels make them: a third of a GB a second
GLANCE_WORTHWHILE = 1.15  # times the limit, that planes may take at a glance if tokens are to keep within it

_SMALLEST_FRAME = 32  # no zstd frame of fewer bytes saves any
_TRIAL_BLOCKS, _TRIAL_BLOCK = 4, 8192  # bytes that integers are tried on


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk's payload, and the id of the codec that reads it; is_delta: it needs the base to be read."""

    codec_id: int
    payload: Buffer
    is_delta: bool


def choose_predicted(raw: Buffer, dtype: DType, prediction: Prediction) -> Encoded | None:
    """`raw` as its difference to a prediction; None unless that is next to nothing, which costs its reader several
    chunks. Where an optimizer's formula holds, it is."""
    if len(raw) < TOKENS_BYTES or not _is_warm(len(raw)):
        return None
    from castore.codecs import predicted

    return _foreseen(raw, dtype, predicted.plan(raw, dtype, prediction), PREDICTION_WORTHWHILE)


def choose(
    raw: Buffer,
    dtype: DType,
    base: Buffer | None,
    rows: Rows | None = None,
    worthwhile: float = STANDALONE_WORTHWHILE,
    low_rank: bool = False,
) -> Encoded:
    """Encode `raw` by the codec of least cost; never more bytes than `raw` itself, and maybe `raw` itself, not copied.

    `base`: the bytes of the chunk at the same place in the parent, or None; ignored unless exactly as long. `rows`: how
    the chunk lies in a matrix, where rows and columns are known to change together. `low_rank`: they are not, and what
    the rows' differences have in common is looked for instead, which takes ten times as long. `worthwhile`: numbers
    that would take more of the raw size than this are left as they are: the less, the faster.
    """
    if base is not None and len(base) != len(raw):
        base = None
    if len(raw) < TINY_BYTES or (dtype is BYTES and base is None):
        return _choose_plain(raw, dtype)
    if dtype.exponent:
        return _choose_float(raw, dtype, base, rows, worthwhile, low_rank)
    return _choose_by_trial(raw, dtype, base, worthwhile)


def _choose_plain(raw: Buffer, dtype: DType) -> Encoded:
    """zstd or raw. Floats too small for planes only compress if they repeat, which one comparison shows."""
    if len(raw) < _SMALLEST_FRAME:
        return _raw(raw)
    if dtype.exponent:
        data, period = bytes(raw), max(8, dtype.width)
        if data[period:] != data[:-period]:
            return _raw(raw)
    elif len(raw) > _TRIAL_BLOCKS * _TRIAL_BLOCK * 2:
        trial = _trial(raw, 1)
        if len(zstd_frames.compress_general(trial)) >= STANDALONE_WORTHWHILE * len(trial):
            return _raw(raw)
    return _encoded(ZSTD, raw, dtype, None)


def _choose_float(
    raw: Buffer, dtype: DType, base: Buffer | None, rows: Rows | None, worthwhile: float, low_rank: bool
) -> Encoded:
    if worthwhile < STANDALONE_WORTHWHILE and (encoded := _at_a_glance(raw, dtype, base, worthwhile)) is not None:
        return encoded
    if len(raw) >= TOKENS_BYTES and _is_warm(len(raw)):
        return _choose_tokens(raw, dtype, base, rows, worthwhile, low_rank)
    from castore.codecs.estimate import estimate

    fractions = estimate(raw, dtype, base)
    standalone = fractions[PLANES]
    delta = min((XOR_PLANES, SUB_PLANES), key=lambda codec: fractions.get(codec, 2.0))
    if fractions.get(delta, 2.0) < min(DELTA_WORTHWHILE * min(standalone, 1.0), worthwhile):
        encoded = _encoded(delta, raw, dtype, base)
        # The sample may have misled us: a delta that did not keep its promise has to beat the real standalone.
        if len(encoded.payload) < DELTA_WORTHWHILE * standalone * len(raw):
            return encoded
        size = len(encoded.payload)
        alone = _encoded(PLANES, raw, dtype, None)
        return _encoded(delta, raw, dtype, base) if size < DELTA_WORTHWHILE * len(alone.payload) else alone
    if standalone >= worthwhile:
        return _raw(raw)
    return _encoded(PLANES, raw, dtype, None)


_glanced = 0  # bytes of chunks in haste; as `_offered`
_promising = 0  # of these the bytes that kernels would have made small, had they been there


def _at_a_glance(raw: Buffer, dtype: DType, base: Buffer | None, worthwhile: float) -> Encoded | None:
    """A chunk in haste, without kernels, which take 60 MB to load; None where those are worth it."""
    from castore.codecs.estimate import glance

    global _glanced, _promising
    fraction, codec_id = glance(raw, dtype, base)
    _glanced += len(raw)
    if fraction >= GLANCE_WORTHWHILE * worthwhile:
        return _raw(raw)
    _promising += len(raw)
    if _promising >= max(HASTY_WARM_BYTES, HASTY_WARM_SHARE * _glanced):
        return None
    if fraction >= UNAIDED_WORTHWHILE:
        return _raw(raw)
    codec = cast("PlaneCodec", by_id(codec_id))
    payload = codec.encode_without_kernels(raw, dtype, base if codec.is_delta else None)
    return Encoded(codec_id, payload, codec.is_delta) if len(payload) < worthwhile * len(raw) else _raw(raw)


def _choose_tokens(
    raw: Buffer, dtype: DType, base: Buffer | None, rows: Rows | None, worthwhile: float, low_rank: bool
) -> Encoded:
    """The coders of tokens: a delta if it pays, else exponents; planes where the bytes below those are not random."""
    from castore.codecs import exponents, ordered_delta, predicted
    from castore.codecs.estimate import standalone_planes

    planes, has_structure = standalone_planes(raw, dtype)
    alone = PLANES if has_structure or not exponents.supports(dtype) else EXPONENTS
    plan = None if base is None else ordered_delta.plan(raw, dtype, base)
    limit = min(DELTA_WORTHWHILE * min(planes, 1.0), worthwhile)
    if plan is not None and base is not None and rows is not None and low_rank:
        foreseen = predicted.plan_low_rank(raw, dtype, base, rows)
        most = min(plan.fraction, planes, worthwhile / LOW_RANK_WORTHWHILE)
        if (better := _foreseen(raw, dtype, foreseen, LOW_RANK_WORTHWHILE * most)) is not None:
            return better
    elif plan is not None and base is not None and rows is not None and plan.fraction < ROWS_AT_BEST * limit:
        foreseen = predicted.plan_rows(raw, dtype, base, rows)
        if (better := _foreseen(raw, dtype, foreseen, min(limit, ROWS_WORTHWHILE * plan.fraction))) is not None:
            return better
    if plan is not None and base is not None and plan.fraction < limit:
        payload = ordered_delta.CODEC.encode_as(raw, dtype, base, plan)
        if len(payload) < limit * len(raw):
            return Encoded(ORDERED_DELTA, payload, is_delta=True)
    return _raw(raw) if planes >= worthwhile else _encoded(alone, raw, dtype, None)


def _foreseen(raw: Buffer, dtype: DType, foreseen: PredictedPlan | None, limit: float) -> Encoded | None:
    """`raw` as its difference to what was foreseen, if that takes less than `limit` of the raw size."""
    from castore.codecs import predicted

    if foreseen is None or foreseen.fraction(len(raw)) >= limit:
        return None
    payload = predicted.CODEC.encode_as(raw, dtype, foreseen)
    return Encoded(PREDICTED, payload, is_delta=True) if len(payload) < limit * len(raw) else None


_offered = 0  # bytes that the coders of tokens could have coded so far; a lost update does no harm


def _is_warm(size: int) -> bool:
    """Whether this process has met enough to code: one small tensor must not wait seconds for a compiler."""
    global _offered
    _offered += size
    return _offered >= WARM_BYTES


def expect(size: int) -> None:
    """So many bytes of chunks are going to be offered in all: whoever knows that begins with the better coders."""
    _is_warm(size)


def _choose_by_trial(raw: Buffer, dtype: DType, base: Buffer | None, worthwhile: float) -> Encoded:
    """Integers follow patterns that an entropy does not see: encode a part of the chunk in every way."""
    part = _trial(raw, dtype.word)
    part_base = None if base is None else _trial(base, dtype.word)
    sizes = {codec: len(by_id(codec).encode(part, dtype, None)) for codec in (ZSTD, PLANES)}
    best = min(sizes, key=lambda codec: sizes[codec])
    limit = min(DELTA_WORTHWHILE * sizes[best], worthwhile * len(part))
    if part_base is not None:
        tried: tuple[int, ...] = (XOR_PLANES, SUB_PLANES)
        if len(raw) >= TOKENS_BYTES and _is_warm(len(raw)):
            tried = (*tried, ORDERED_DELTA)
        deltas = {codec: len(by_id(codec).encode(part, dtype, part_base)) for codec in tried}
        delta = min(deltas, key=lambda codec: deltas[codec])
        if deltas[delta] < limit:
            return _encoded(delta, raw, dtype, base)
    if sizes[best] >= worthwhile * len(part):
        return _raw(raw)
    return _encoded(best, raw, dtype, None)


def _trial(raw: Buffer, word: int) -> Buffer:
    """A few stretches of `raw`, in whole words; all of it if there is little more."""
    if len(raw) <= _TRIAL_BLOCKS * _TRIAL_BLOCK * 2:
        return raw
    view = memoryview(raw)
    step = len(raw) // _TRIAL_BLOCKS // word * word
    return b"".join(view[i * step : i * step + _TRIAL_BLOCK] for i in range(_TRIAL_BLOCKS))


def _encoded(codec_id: int, raw: Buffer, dtype: DType, base: Buffer | None) -> Encoded:
    codec = by_id(codec_id)
    payload = codec.encode(raw, dtype, base if codec.is_delta else None)
    if len(payload) >= STANDALONE_WORTHWHILE * len(raw):
        return _raw(raw)
    return Encoded(codec_id, payload, codec.is_delta)


def _raw(raw: Buffer) -> Encoded:
    return Encoded(RAW, raw, is_delta=False)
