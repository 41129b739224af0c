"""Codec 5, only read since codec 6: differences to the base as tokens and raw bits, for floats of 2 and 4 bytes.

Both words are mapped to integers in the order of the floats, subtracted with wrap-around, and zigzagged to z. Of
y = z + 1 the token is floor(log2 y), the bits below the leading one are raw: they are close to uniform. Tokens are
coded by tANS (Duda 2013, as in FSE) with one table of 1024 states for each of 16 contexts: how far the base's exponent
lies below the largest one, since an optimizer's step is about constant in absolute terms.

Blocks of 256 words that are all as in the base are left out of all this, and of the counts below.

    offset  bytes  field
    0       2      top: the exponent that contexts are counted down from
    2       1      t: number of tokens, 1 to 8 x word + 1
    3       1      r: words at the end of the chunk that are stored raw: its length modulo 256
    4       2      contexts that have a table of their own, bit k for context k
    6       4      b: bits of the stream
    10      16     first states of the 8 lanes, 2 bytes each, below 1024
    26      2t     for each such context, in order: the frequencies of the tokens, each at least 1, 1024 together
    ...     ceil(blocks / 8)  which blocks are in the stream, bit k % 8 of byte k // 8 for block k
    ...     r x word  the last words
    ...     ceil(b / 8) + 8   the stream, and 8 zero bytes

All little-endian. Contexts without a table have all tokens alike: 1024 // t each, one more for the first 1024 % t.
docs/format.md says how the stream is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.codecs.base import Buffer
from castore.dtypes import DType
from castore.errors import CorruptError
from castore.kernels import residual as kernels
from castore.kernels.residual import CONTEXTS, STATES, TABLE, Coded

_HEADER = struct.Struct("<HBBHI")
_STATES_BYTES = 2 * STATES
BLOCK = 256  # words; a multiple of 16, as the kernels need it


def supports(dtype: DType) -> bool:
    """Whether the codec has words of this dtype."""
    return dtype.exponent > 0 and dtype.word in (2, 4)


@dataclass(frozen=True, slots=True)
class ResidualCodec:
    id: int = 5
    name: str = "residual"
    is_delta: bool = True
    takes_bases: bool = False

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        raise ValueError(f"codec {self.name} is only read: castore no longer writes it")

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if not supports(dtype) or len(out) % dtype.word:
            raise CorruptError(f"residual record of {len(out)} bytes of {dtype.name}: there is no such thing")
        words = np.frombuffer(out, f"<u{dtype.word}")
        blocks = words.size // BLOCK
        coded, changed, tail = _parse(memoryview(payload), dtype, words.size)
        if changed.any():
            body = words[: blocks * BLOCK]
            part = body if changed.all() else body.reshape(blocks, BLOCK)[changed].reshape(-1)
            if not kernels.decode(coded, dtype.mantissa, part):
                raise CorruptError("residual record's stream does not decode")
            if part is not body:
                body.reshape(blocks, BLOCK)[changed] = part.reshape(-1, BLOCK)
        words[blocks * BLOCK :] = np.frombuffer(tail, words.dtype)


def _parse(view: memoryview, dtype: DType, count: int) -> tuple[Coded, NDArray[np.bool_], memoryview]:
    """The parts of a payload for `count` words, every length and frequency checked."""
    fixed = _HEADER.size + _STATES_BYTES
    if len(view) < fixed:
        raise CorruptError("residual record ends within its header")
    top, tokens, tail_count, mask, bits = _HEADER.unpack_from(view)
    states = np.frombuffer(view[_HEADER.size : fixed], "<u2")
    used = np.array([mask >> k & 1 for k in range(CONTEXTS)], np.bool_)
    blocks = count // BLOCK
    tables_end = fixed + 2 * tokens * int(used.sum())
    bitmap_end = tables_end + -(-blocks // 8)
    tail_end = bitmap_end + tail_count * dtype.word
    if not 1 <= tokens <= 8 * dtype.word + 1 or tail_count != count % BLOCK or top >> dtype.exponent:
        raise CorruptError("residual record's header makes no sense")
    if len(view) != tail_end + kernels.stream_bytes(bits):
        raise CorruptError("residual record's length does not fit its header")
    if (states >= TABLE).any():
        raise CorruptError("residual record's states are out of range")
    frequencies = kernels.alike(tokens).copy()
    given = np.frombuffer(view[fixed:tables_end], "<u2").reshape(-1, tokens)
    if given.size and ((given == 0).any() or (given.sum(axis=1, dtype=np.int64) != TABLE).any()):
        raise CorruptError("residual record's frequencies do not add up")
    frequencies[used] = given
    changed = np.unpackbits(np.frombuffer(view[tables_end:bitmap_end], np.uint8), count=blocks, bitorder="little")
    stream = np.frombuffer(view[tail_end:], np.uint8)
    coded = Coded(top, frequencies, np.ascontiguousarray(states, np.uint16), bits, stream)
    return coded, changed.astype(np.bool_), view[bitmap_end:tail_end]


CODEC = ResidualCodec()
