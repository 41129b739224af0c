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

_HALVES = {4: np.uint16, 8: np.uint32}
_NOISE_WORDS = 256  # of which a handful repeats by chance
_NOISE_REPEATS = 0.06  # of the words; of random ones 0.004, of those of which every tenth is 0 it is 0.1
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


def glance(raw: Buffer, dtype: DType, base: Buffer | None) -> tuple[float, int]:
    """(the least fraction of `estimate`, its codec's id), from an eighth of its sample and without kernels, which take
    a process a tenth of a second and 60 MB to load. What is noise down to the middle of its words, by itself and less
    the base, is not looked at more closely, which takes ten times as long: it counts as 1.0, and no
    coder brings it below half of its size.
    """
    words = _sample(raw, dtype, GLANCE)
    before = None if base is None else _sample(base, dtype, GLANCE)
    if before is not None and _is_noise(words - before):
        before = None
    if before is None and _is_noise(words):
        return 1.0, PLANES
    width, tried = dtype.word, _ways(dtype, before)
    planes: Bytes = np.empty((len(tried) * width, words.size), np.uint8)
    for i, (_, transform, other) in enumerate(tried):
        reference.split(transform, words, other, planes[i * width : (i + 1) * width])
    sample = Sample(reference.entropies(planes).tolist())
    return min((sample.stored_fraction(i * width, (i + 1) * width), codec) for i, (codec, _, _) in enumerate(tried))


def _is_noise(words: Words) -> bool:
    """Whether the lower halves of `words` [n] are nearly all different, as those of random words are; of words whose
    halves are too short to tell, False."""
    half = _HALVES.get(words.itemsize)
    if half is None or words.size < _NOISE_WORDS:
        return False
    lower = words.astype(half)
    lower.sort()
    return int(np.count_nonzero(lower[1:] == lower[:-1])) < _NOISE_REPEATS * words.size


def _ways(dtype: DType, base: Words | None) -> list[tuple[int, Transform, Words | None]]:
    """The plane codecs, their transforms, and what these are given."""
    rotated = Transform.ROTATE if dtype.word > 1 else Transform.PLAIN
    tried: list[tuple[int, Transform, Words | None]] = [(PLANES, rotated, None)]
    if base is not None:
        tried += [(XOR_PLANES, Transform.XOR, base), (SUB_PLANES, Transform.SUB, base)]
    return tried


def standalone_planes(raw: Buffer, dtype: DType) -> tuple[float, bool]:
    """(what fraction of the raw size `planes` or `exponents` would take, whether there is structure below the top byte
    to gain from).

    `raw` is not empty.
    """
    words = _sample(raw, dtype)
    width = dtype.word
    rows: Bytes = np.empty((width, words.size), np.uint8)
    has_signs = int(words.max()) >> (8 * width - 1)  # without, `exponents` does not rotate words, and gains as much
    kernels.split(Transform.ROTATE if width > 1 and has_signs else Transform.PLAIN, words, None, rows)
    sample = entropies(rows)
    below = sample.bits[: width - 1]
    has_structure = any(bits <= RAW_BITS for bits in below) or probe(np.frombuffer(raw, np.uint8)) < _REPEATS
    return sample.stored_fraction(0, width), has_structure


def _sample(raw: Buffer, dtype: DType, block: int = BLOCK) -> Words:
    return strided(as_words(raw, dtype).reshape(1, -1), block).reshape(-1)
