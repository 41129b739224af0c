"""A sketch of a tensor: a few of its words, enough to tell how much a delta to another tensor would save.

The words are taken from the tensor's first chunk, one out of each of WORDS equal parts, at a place within the part
that differs from part to part: rows of a matrix are often as long as a part, and a column is no fair sample. The places
follow from the number of words alone, so that sketches of tensors of one shape can be compared word by word.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from castore.codecs.base import Buffer
from castore.codecs.byte_planes import as_words
from castore.dtypes import DType
from castore.kernels.reference import Words, ordered

WORDS = 64
_FRACTIONS = np.arange(WORDS, dtype=np.int64) * 40503 % 65536  # multiples of the golden ratio: spread evenly
_COARSE = 4  # every fourth word tells which sketches are worth a closer look
_CLOSER = 32  # how many

Values = NDArray[np.float64]  # words in the order of the floats, exact


def size(dtype: DType) -> int:
    """The bytes of a sketch."""
    return WORDS * dtype.word


def sketch(raw: Buffer, dtype: DType) -> bytes | None:
    """The sketch of a tensor whose first chunk is `raw`, of WORDS words at least; None if it would tell nothing."""
    words = as_words(raw, dtype)
    part = words.size // WORDS
    found = words[np.arange(WORDS) * part + (_FRACTIONS * part >> 16)]
    return None if (found == found[0]).all() else found.tobytes()


def values(sketches: Buffer, dtype: DType) -> Values:
    """Sketches, one after another, as numbers [n, WORDS] whose differences say what a delta costs."""
    words: Words = ordered(as_words(sketches, dtype))
    return words.view(f"<i{dtype.word}").astype(np.float64).reshape(-1, WORDS)


def nearest(own: Values, others: Values) -> NDArray[np.intp]:
    """The rows of `others` [n, WORDS] that `own` [1, WORDS] is nearest to, the nearest first; a few of them, or all."""
    rows = np.arange(others.shape[0])
    if rows.size > 2 * _CLOSER:
        coarse = _bits(own[:, ::_COARSE], others[:, ::_COARSE]).sum(axis=1)
        rows = np.argpartition(coarse, _CLOSER)[:_CLOSER]
    order = np.argsort(_bits(own, others[rows]).sum(axis=1), kind="stable")
    return np.asarray(rows[order])


def saves(own: Values, other: Values, dtype: DType) -> float:
    """What a delta would save of the bits that `own` takes alone, by estimate; negative if it would cost more."""
    lengths = _bits(own, other)[0]
    delta = float(lengths.mean()) + _entropy(lengths)  # the bits below the leading one, the sign, which one leads
    magnitudes = own[0].astype(np.int64)
    magnitudes ^= magnitudes >> 63  # what `ordered` makes of a negative float
    union = int(np.bitwise_or.reduce(magnitudes))
    used = max(
        dtype.mantissa + 1 - (union & -union).bit_length(), 0
    )  # bits that are zero in all words cost next to nothing
    alone = float((magnitudes != 0).mean()) * (1 + used) + _entropy(magnitudes >> dtype.mantissa)
    return float(1.0 - delta / alone) if alone > 0.0 else 0.0


def _bits(own: Values, others: Values) -> NDArray[np.int64]:
    """The bits of each difference: 0 for none, else 1 + floor(log2)."""
    exponents: NDArray[np.int64] = np.abs(others - own).view(np.int64) >> 52
    return np.maximum(exponents - 1022, 0)


def _entropy(symbols: NDArray[np.int64]) -> float:
    """Bits a symbol, none of them large, corrected for the size of the sample (Miller-Madow)."""
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    total = symbols.size
    bits = np.log2(total) - (counts * np.log2(counts)).sum() / total
    return float(bits + (counts.size - 1) / (2 * np.log(2) * total))
