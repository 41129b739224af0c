"""What the plane codecs would make of a chunk of floats, from the entropies of a sample's planes."""

from __future__ import annotations

import numpy as np

from castore.codecs import PLANES, SUB_PLANES, XOR_PLANES
from castore.codecs.base import Buffer
from castore.codecs.byte_planes import as_words
from castore.codecs.sampling import BLOCK, GLANCE, RAW_BITS, Sample, entropies, probe, strided
from castore.dtypes import DType
from castore.kernels import planes as kernels
from castore.kernels import reference
from castore.kernels.reference import Bytes, Transform, Words

_REPEATS = 0.7  # of its size that lz4 makes of a stretch with repeats; floats that differ do not get there


def estimate(raw: Buffer, dtype: DType, base: Buffer | None) -> dict[int, float]:
    """Codec id -> fraction of the raw size, for `planes` and, if there is a base, both deltas. `raw` is not empty."""
    words = _sample(raw, dtype)
    tried = _ways(dtype, None if base is None else _sample(base, dtype))
    width = dtype.word
    rows: Bytes = np.empty((width * len(tried), words.size), np.uint8)
    for i, (_, transform, other) in enumerate(tried):
        kernels.split(transform, words, other, rows[i * width : (i + 1) * width])
    sample = entropies(rows)
    return {codec: sample.stored_fraction(i * width, (i + 1) * width) for i, (codec, _, _) in enumerate(tried)}


def glance(raw: Buffer, dtype: DType, base: Buffer | None, limit: float) -> tuple[float, int]:
    """(the least fraction of `estimate`, its codec's id), from an eighth of its sample and without kernels, which take
    a process a tenth of a second and 60 MB to load. Deltas of which the values are longer than `limit` of a word are
    not looked at: that takes two thirds of the time, and planes of such values hardly come below it."""
    words = _sample(raw, dtype, GLANCE)
    before = None if base is None else _sample(base, dtype, GLANCE)
    if before is not None and _length(words, before) >= limit:
        before = None
    width, tried = dtype.word, _ways(dtype, before)
    planes: Bytes = np.empty((len(tried) * width, words.size), np.uint8)
    for i, (_, transform, other) in enumerate(tried):
        reference.split(transform, words, other, planes[i * width : (i + 1) * width])
    sample = Sample(reference.entropies(planes).tolist())
    return min((sample.stored_fraction(i * width, (i + 1) * width), codec) for i, (codec, _, _) in enumerate(tried))


def _length(words: Words, base: Words) -> float:
    """The mean length in bits of the differences of `words` [n] to `base` [n], as a fraction of a word's."""
    lengths = np.log2(reference.zigzag(words - base).astype(np.float64) + 1)
    return float(lengths.mean()) / (8 * words.itemsize)


def _ways(dtype: DType, base: Words | None) -> list[tuple[int, Transform, Words | None]]:
    """The plane codecs, their transforms, and what these are given."""
    rotated = Transform.ROTATE if dtype.word > 1 else Transform.PLAIN
    tried: list[tuple[int, Transform, Words | None]] = [(PLANES, rotated, None)]
    if base is not None:
        tried += [(XOR_PLANES, Transform.XOR, base), (SUB_PLANES, Transform.SUB, base)]
    return tried


def standalone_planes(raw: Buffer, dtype: DType) -> tuple[float, bool]:
    """(what fraction of the raw size `planes` would take, whether there is structure below the top byte to gain from).

    `raw` is not empty.
    """
    words = _sample(raw, dtype)
    width = dtype.word
    rows: Bytes = np.empty((width, words.size), np.uint8)
    kernels.split(Transform.ROTATE if width > 1 else Transform.PLAIN, words, None, rows)
    sample = entropies(rows)
    below = sample.bits[: width - 1]
    has_structure = any(bits <= RAW_BITS for bits in below) or probe(np.frombuffer(raw, np.uint8)) < _REPEATS
    return sample.stored_fraction(0, width), has_structure


def _sample(raw: Buffer, dtype: DType, block: int = BLOCK) -> Words:
    return strided(as_words(raw, dtype).reshape(1, -1), block).reshape(-1)
