"""Which codec a chunk gets: the one that a sample of it says is smallest, never one on faith.

Chunks under TINY_BYTES, and plain bytes, load neither NumPy nor Numba: one zstd call, or none. Floats are judged by
the entropies of a sample's planes, integers by encoding a sample.
"""

from __future__ import annotations

from dataclasses import dataclass

from castore.codecs import PLANES, RAW, RESIDUAL, SUB_PLANES, XOR_PLANES, ZSTD, by_id, zstd_frames
from castore.codecs.base import Buffer
from castore.dtypes import BYTES, DType

TINY_BYTES = 4096  # below this a footer's entry weighs more than what a better codec saves
RESIDUAL_BYTES = 128 * 1024  # from here on its tables weigh little
WARM_BYTES = 4 * 1024 * 1024  # of such chunks that a process offers before it compiles the kernels of `residual`
DELTA_WORTHWHILE = 0.95  # of the best standalone size; a delta costs its reader the base
STANDALONE_WORTHWHILE = 0.98  # of the raw size

_SMALLEST_FRAME = 32  # no zstd frame of fewer bytes saves any
_TRIAL_BLOCKS, _TRIAL_BLOCK = 4, 8192  # bytes that integers are tried on


@dataclass(frozen=True, slots=True)
class Encoded:
    """A chunk's payload, and the id of the codec that reads it; is_delta: it needs the base to be read."""

    codec_id: int
    payload: Buffer
    is_delta: bool


def choose(raw: Buffer, dtype: DType, base: Buffer | None) -> Encoded:
    """Encode `raw` by the codec of least cost; never more bytes than `raw` itself, and maybe `raw` itself, not copied.

    `base`: the bytes of the chunk at the same place in the parent, or None; ignored unless exactly as long.
    """
    if base is not None and len(base) != len(raw):
        base = None
    if len(raw) < TINY_BYTES or (dtype is BYTES and base is None):
        return _choose_plain(raw, dtype)
    if dtype.exponent:
        return _choose_float(raw, dtype, base)
    return _choose_by_trial(raw, dtype, base)


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


def _choose_float(raw: Buffer, dtype: DType, base: Buffer | None) -> Encoded:
    from castore.codecs import residual
    from castore.codecs.estimate import estimate, estimate_residual

    fractions = estimate(raw, dtype, base)
    if base is not None and len(raw) >= RESIDUAL_BYTES and residual.supports(dtype) and _is_warm(len(raw)):
        fractions[RESIDUAL] = estimate_residual(raw, dtype, base)
    standalone = fractions[PLANES]
    delta = min((RESIDUAL, XOR_PLANES, SUB_PLANES), key=lambda codec: fractions.get(codec, 2.0))
    if fractions.get(delta, 2.0) < DELTA_WORTHWHILE * min(standalone, 1.0):
        encoded = _encoded(delta, raw, dtype, base)
        # The sample may have misled us: a delta that did not keep its promise has to beat the real standalone.
        if len(encoded.payload) < DELTA_WORTHWHILE * standalone * len(raw):
            return encoded
        size = len(encoded.payload)
        alone = _encoded(PLANES, raw, dtype, None)
        return _encoded(delta, raw, dtype, base) if size < DELTA_WORTHWHILE * len(alone.payload) else alone
    if standalone >= STANDALONE_WORTHWHILE:
        return _raw(raw)
    return _encoded(PLANES, raw, dtype, None)


_offered = 0  # bytes that `residual` could have coded so far; a lost update does no harm


def _is_warm(size: int) -> bool:
    """Whether this process has met enough to code: one small tensor must not wait seconds for a compiler."""
    global _offered
    _offered += size
    return _offered >= WARM_BYTES


def _choose_by_trial(raw: Buffer, dtype: DType, base: Buffer | None) -> Encoded:
    """Integers follow patterns that an entropy does not see: encode a part of the chunk in every way."""
    part = _trial(raw, dtype.word)
    part_base = None if base is None else _trial(base, dtype.word)
    sizes = {codec: len(by_id(codec).encode(part, dtype, None)) for codec in (ZSTD, PLANES)}
    best = min(sizes, key=lambda codec: sizes[codec])
    limit = min(DELTA_WORTHWHILE * sizes[best], STANDALONE_WORTHWHILE * len(part))
    if part_base is not None:
        deltas = {codec: len(by_id(codec).encode(part, dtype, part_base)) for codec in (XOR_PLANES, SUB_PLANES)}
        delta = min(deltas, key=lambda codec: deltas[codec])
        if deltas[delta] < limit:
            return _encoded(delta, raw, dtype, base)
    if sizes[best] >= STANDALONE_WORTHWHILE * len(part):
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
