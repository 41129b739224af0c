"""Payloads of codec 5, as castore wrote them until codec 6: slowly, by the reference."""

from __future__ import annotations

import struct

import numpy as np

from castore.codecs.residual import BLOCK
from castore.dtypes import DType
from castore.kernels import residual as kernels
from castore.kernels import residual_reference as reference
from castore.kernels.reference import Words
from castore.kernels.residual import CONTEXTS, Coded
from tests.codecs.words import kind, mantissa


def encode(words: Words, base: Words, dtype: DType) -> tuple[Coded, list[int]]:
    """The parts of a payload, of n > 0 words, n a multiple of 16; and the contexts that have a table in it."""
    magnitudes = base & base.dtype.type((1 << (8 * dtype.word - 1)) - 1)
    top = int(magnitudes.max()) >> mantissa(dtype)
    y = reference.residuals(words, base)
    tokens, contexts = reference.bit_lengths(y), reference.context(base, top, mantissa(dtype))
    counts = np.zeros((CONTEXTS, int(tokens.max()) + 1), np.int64)
    np.add.at(counts, (contexts, tokens), np.arange(y.size) % 8 < 2)  # a sample
    frequencies = reference.normalised(counts)
    states, bits, stream = reference.encode(y, contexts, frequencies)
    padded = np.frombuffer(stream + bytes(kernels.PAD_BYTES), np.uint8)
    coded = Coded(top, frequencies, np.array(states, np.uint16), bits, padded)
    return coded, np.flatnonzero(counts.any(axis=1)).tolist()


def payload(raw: bytes, dtype: DType, base: bytes) -> bytes:
    words, old = np.frombuffer(raw, kind(dtype)), np.frombuffer(base, kind(dtype))
    blocks = words.size // BLOCK
    left = words.size - blocks * BLOCK
    tail = words[blocks * BLOCK :].tobytes()
    new_blocks, old_blocks = (array[: blocks * BLOCK].reshape(blocks, BLOCK) for array in (words, old))
    changed = (new_blocks != old_blocks).any(axis=1)
    bitmap = np.packbits(changed, bitorder="little").tobytes()
    if not changed.any():
        return struct.pack("<HBBHI", 0, 1, left, 0, 0) + bytes(16) + bitmap + tail + bytes(kernels.PAD_BYTES)
    coded, used = encode(new_blocks[changed].reshape(-1), old_blocks[changed].reshape(-1), dtype)
    head = struct.pack(
        "<HBBHI", coded.top, coded.frequencies.shape[1], left, sum(1 << context for context in used), coded.bits
    )
    tables = coded.frequencies[used].astype("<u2").tobytes()
    return b"".join((head, coded.states.astype("<u2").tobytes(), tables, bitmap, tail, coded.stream.tobytes()))
