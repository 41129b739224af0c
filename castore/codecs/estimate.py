"""What each plane codec would make of a chunk of floats, from the entropies of a sample's planes."""

from __future__ import annotations

import numpy as np

from castore.codecs import PLANES, SUB_PLANES, XOR_PLANES
from castore.codecs.base import Buffer
from castore.codecs.byte_planes import as_words
from castore.codecs.sampling import entropies, strided
from castore.dtypes import DType
from castore.kernels import planes as kernels
from castore.kernels import residual
from castore.kernels.reference import Bytes, Transform, Words


def estimate(raw: Buffer, dtype: DType, base: Buffer | None) -> dict[int, float]:
    """Codec id -> fraction of the raw size, for `planes` and, if there is a base, both deltas. `raw` is not empty."""
    words = _sample(raw, dtype)
    rotated = Transform.ROTATE if dtype.word > 1 else Transform.PLAIN
    tried: list[tuple[int, Transform, Words | None]] = [(PLANES, rotated, None)]
    if base is not None:
        base_words = _sample(base, dtype)
        tried += [(XOR_PLANES, Transform.XOR, base_words), (SUB_PLANES, Transform.SUB, base_words)]
    width = dtype.word
    rows: Bytes = np.empty((width * len(tried), words.size), np.uint8)
    for i, (_, transform, other) in enumerate(tried):
        kernels.split(transform, words, other, rows[i * width : (i + 1) * width])
    sample = entropies(rows)
    return {codec: sample.stored_fraction(i * width, (i + 1) * width) for i, (codec, _, _) in enumerate(tried)}


def estimate_residual(raw: Buffer, dtype: DType, base: Buffer) -> float:
    """What fraction of the raw size `residual` would take: raw bits, and the entropy of tokens given their context."""
    symbols = residual.symbols(_sample(raw, dtype), _sample(base, dtype), 8 * dtype.word - 1 - dtype.exponent)
    counts = np.bincount(symbols, minlength=residual.CONTEXTS * residual.SYMBOLS)
    seen = counts[counts > 0]
    totals = counts.reshape(residual.CONTEXTS, residual.SYMBOLS).sum(axis=1)
    totals = totals[totals > 0]
    tokens = np.flatnonzero(counts) % residual.SYMBOLS
    entropy = (totals * np.log2(totals)).sum() - (seen * np.log2(seen)).sum()
    # Miller-Madow for the sample, and the tables that go with each context.
    bits = entropy + (seen.size - totals.size) / (2 * np.log(2)) + (seen * tokens).sum()
    tables = 2 * totals.size * (int(tokens.max()) + 2) / len(raw)
    fraction = float(bits) / (8 * dtype.word * symbols.size)
    return fraction + float(tables)


def _sample(raw: Buffer, dtype: DType) -> Words:
    return strided(as_words(raw, dtype).reshape(1, -1)).reshape(-1)
