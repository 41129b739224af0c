"""Codec 7: floats that stand alone: exponents as tokens, sign and mantissa as they are; for words of 2, 4 and 8 bytes.

Words are rotated left by one bit, unless none of them has a sign. Their top byte, which is the exponent or most of it,
is coded by tANS or rANS (Duda 2013); the bytes below, close to uniform in trained weights, are stored as planes. Units
of 256 words that are all zero may be left out.

    offset  bytes  field
    0       1      coder: q, log2 of what frequencies sum to, for tANS; 128 + q for rANS
    1       1      bit 0: some units are left out, and a bitmap says which are not; bit 1: words are not rotated
    2       1      f: the first top byte that has a frequency
    3       1      t - 1: how many top bytes have one from there on
    4       4      bits of the tokens
    8       s      first states of the 4 lanes of tANS, 2 bytes each, or of the 64 of rANS, 4 bytes each
    8 + s   2t     the frequencies, together 2**q
    ...     ...    the bitmap if there is one: bit k % 8 of byte k // 8 for unit k
    ...     ...    tokens, up to a whole byte at their end
    ...     ...    planes of the n words that are coded, the lowest byte first; of the top byte none
    ...     8      zero

All little-endian. docs/format.md says how the stream is read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from castore.codecs import token_layout as layout
from castore.codecs.base import Buffer
from castore.codecs.byte_planes import as_words
from castore.dtypes import DType
from castore.errors import CorruptError
from castore.kernels import exponent as kernels
from castore.kernels import scratch
from castore.kernels.blocks import LANES, UNIT
from castore.kernels.coder import Coder, best, of_byte

_HEADER = struct.Struct("<BBBBI")
_PLAIN = Coder(False, kernels.TABLE_BITS)
_HAS_UNITS, _NO_SIGNS = 1, 2
_STEP = 8  # every eighth unit is counted for the frequencies


def supports(dtype: DType) -> bool:
    """Whether the codec has words of this dtype."""
    return dtype.exponent > 0 and dtype.word > 1


@dataclass(frozen=True, slots=True)
class ExponentsCodec:
    id: int = 7
    name: str = "exponents"
    is_delta: bool = False
    takes_bases: bool = False

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        if base is not None or not supports(dtype):
            raise ValueError(f"codec {self.name}: base not wanted, or words of {dtype.name}")
        words = as_words(raw, dtype)
        occupied, has_signs = _occupied(words)
        units, shift = layout.worth_leaving_out(occupied), int(has_signs)
        coded_words = layout.selected(words, units, "new")
        bitmap = layout.pack_units(units)
        if not coded_words.size:
            none = bytes(_PLAIN.states_bytes)
            return self._front(_PLAIN, _flags(units, 1), 0, np.zeros(1, np.uint16), none, bitmap, 0) + bytes(
                kernels.PAD_BYTES
            )
        coder = best(coded_words.size, kernels.TABLE_BITS, kernels.TABLE_BITS)
        room = _HEADER.size + coder.states_bytes + 2 * kernels.SYMBOLS + len(bitmap)
        coded = kernels.encode(coded_words, shift, _STEP if coded_words.size > 64 * UNIT else 1, room, coder)
        first = int(np.flatnonzero(coded.frequencies)[0])
        front = self._front(
            coder, _flags(units, shift), first, coded.frequencies[first:], coded.states, bitmap, coded.token_bits
        )
        start = coded.start - len(front)
        coded.data[start : coded.start] = np.frombuffer(front, np.uint8)
        return coded.data[start:].data

    def _front(
        self,
        coder: Coder,
        flags: int,
        first: int,
        frequencies: NDArray[np.uint16],
        states: bytes,
        bitmap: bytes,
        bits: int,
    ) -> bytes:
        head = _HEADER.pack(coder.byte, flags, first, frequencies.size - 1, bits)
        return b"".join((head, states, frequencies.astype("<u2").tobytes(), bitmap))

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if len(out) % dtype.word or not supports(dtype):
            raise CorruptError(f"exponents record of {len(out)} bytes of {dtype.name}: there is no such thing")
        words = np.frombuffer(out, f"<u{dtype.word}")
        view = memoryview(payload)
        if len(view) < _HEADER.size:
            raise CorruptError("exponents record ends within its header")
        coder_byte, flags, first, width, token_bits = _HEADER.unpack_from(view)
        coder, has_units, shift = of_byte(coder_byte), flags & _HAS_UNITS, 0 if flags & _NO_SIGNS else 1
        if coder is None or flags > _HAS_UNITS | _NO_SIGNS or first + width >= kernels.SYMBOLS >> 1 - shift:
            raise CorruptError("exponents record's header makes no sense")
        states, rows_start = layout.parse_states(view, _HEADER.size, coder)
        rows_end = rows_start + 2 * (width + 1)
        units_end = rows_end + (layout.unit_bytes(words.size) if has_units else 0)
        if len(view) < units_end:
            raise CorruptError("exponents record ends within its header")
        units = layout.parse_units(view[rows_end:units_end], words.size) if has_units else None
        count = layout.coded_count(words.size, units, coder, token_bits)
        planes = (dtype.word - 1) * count
        if len(view) - units_end != -(-token_bits // 8) + planes + kernels.PAD_BYTES:
            raise CorruptError("exponents record's length does not fit its header")
        if units is not None:
            words[:] = 0
        if not count:
            if token_bits or (states != coder.rest).any():
                raise CorruptError("exponents record has a stream of no words")
            return
        frequencies = np.zeros((1, first + width + 1), np.uint16)
        frequencies[:, first:] = layout.parse_rows(view[rows_start:rows_end], 1, width + 1, 1 << coder.table_bits)
        in_place = units is None and words.size == count
        part = words if in_place else scratch.array("new", count, words.dtype)
        data = np.frombuffer(view[units_end:], np.uint8)
        if not kernels.decode(frequencies, shift, coder, states, data, token_bits, part):
            raise CorruptError("exponents record's stream does not decode")
        if not in_place:
            layout.put_back(part, units, words)


def _flags(units: NDArray[np.bool_] | None, shift: int) -> int:
    return (0 if units is None else _HAS_UNITS) | (0 if shift else _NO_SIGNS)


def _occupied(words: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.bool_], bool]:
    """(which units have a word that is not zero, whether a word has a sign)."""
    whole = words.size // LANES * LANES
    units = np.zeros(-(-words.size // UNIT), np.bool_)
    found, has_signs = kernels.occupied(words[:whole])
    units[: found.size] = found
    if whole < words.size:
        rest = words[whole:]
        units[-1] |= bool(rest.any())
        has_signs = has_signs or bool((rest >> (8 * words.itemsize - 1)).any())
    return units, has_signs


CODEC = ExponentsCodec()
