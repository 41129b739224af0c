"""Codec 6: differences to the base in the order of the words, as tokens and fields; for words of every size.

Words are mapped to integers in the order of the floats, or taken as they are; y is the zigzag of the wrapping
difference to the base, plus 2**low. Of y, the token is floor(log2 y) - low, coded by tANS or rANS (Duda 2013) in the
context of how far the base's exponent lies below the largest one, since an optimizer's step is about constant in
absolute terms. The bits of y under the leading one are close to uniform and stored as they are: the lowest bytes, which
every y has, as byte planes, those between the planes and the leading bit as fields of as many bits. y below 2**low,
which the addition wrapped, and what the tables have no token for, has the last token: all of its bits above the planes
are the field.

Units of 256 words that are all as in the base may be left out of all this.

    offset  bytes  field
    0       1      low: bits that every y has
    1       1      p: byte planes, low // 8 at most
    2       1      coder: q, log2 of what frequencies sum to, for tANS; 128 + q for rANS
    3       1      last context, 0 to 15
    4       1      shift of contexts
    5       1      1: some units are left out, and a bitmap says which are not; 0: none are
    6       2      top: the exponent that contexts are counted down from
    8       2      contexts that have a row of frequencies, bit k for context k
    10      1      f: the first token that rows have
    11      1      t: how many tokens they have from there on, before the last token
    12      4      bits of the tokens
    16      4      bits of the fields
    20      s      first states of the 4 lanes of tANS, 2 bytes each, or of the 64 of rANS, 4 bytes each
    20 + s  2(t+1) for each such context: frequencies of the tokens f to f + t - 1, and of the last; together 2**q
    ...     ...    the bitmap if there is one: bit k % 8 of byte k // 8 for unit k
    ...     ...    tokens, up to a whole byte at their end
    ...     p x n  planes of the n words that are coded, the lowest byte first
    ...     ...    fields, up to a whole byte at their end
    ...     8      zero

All little-endian. A context without a row has the last token alone. docs/format.md says how the streams are read.
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
from castore.kernels import delta as kernels
from castore.kernels.blocks import LANES, ROW, UNIT
from castore.kernels.coder import Coder, best, of_byte
from castore.kernels.delta import Fit
from castore.kernels.reference import Words

_HEADER = struct.Struct("<BBBBBBHHBBII")
_PLAIN = Coder(False, kernels.TABLE_BITS)
_MOST_ROWS = 2 * kernels.MOST_CONTEXTS * ROW
_EMPTY = _HEADER.pack(0, 0, _PLAIN.byte, 0, 0, 0, 0, 0, 0, 0, 0, 0) + bytes(_PLAIN.states_bytes + kernels.PAD_BYTES)
_SAMPLES = 16  # units that the fit is chosen from
_STEP = 4  # every fourth unit is counted for the frequencies
_PROBES = 128  # words that are looked at for whether any unit did not change
_WASTE = 1 / 2000  # of a value's bits, that a larger `low` may cost
_WORDS_A_CONTEXT = 2048  # a context's row must pay


@dataclass(frozen=True, slots=True)
class Plan:
    """How a chunk is to be coded, from a sample of it; fraction: what it will take, of the raw size."""

    fit: Fit
    fraction: float


@dataclass(frozen=True, slots=True)
class OrderedDeltaCodec:
    id: int = 6
    name: str = "ordered-delta"
    is_delta: bool = True
    takes_bases: bool = False

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        if base is None:
            raise ValueError(f"codec {self.name}: base missing")
        if not raw:
            return _EMPTY
        return self.encode_as(raw, dtype, base, plan(raw, dtype, base))

    def encode_as(self, raw: Buffer, dtype: DType, base: Buffer, how: Plan, head: bytes = b"") -> Buffer:
        """`encode` with what `plan` found for the same bytes, of which there are some. head: put before it."""
        words, old = as_words(raw, dtype), as_words(base, dtype)
        coded_units = _units(words, old)
        bitmap = layout.pack_units(coded_units)
        new = layout.selected(words, coded_units, "new")
        before = layout.selected(old, coded_units, "old")
        fit = how.fit
        if not new.size:
            header = _HEADER.pack(fit.low, fit.planes, _PLAIN.byte, 0, 0, 1, 0, 0, 0, 0, 0, 0)
            return b"".join((head, header, bytes(_PLAIN.states_bytes), bitmap, bytes(kernels.PAD_BYTES)))
        step = _STEP if new.size > 64 * UNIT else 1
        coder = best(new.size, kernels.TABLE_BITS, kernels.RANS_TABLE_BITS)
        room = len(head) + _HEADER.size + coder.states_bytes + _MOST_ROWS + len(bitmap)
        coded = kernels.encode(new, before, fit, step, room, coder)
        mask, first, width, rows = _rows(coded)
        header = _HEADER.pack(
            fit.low,
            fit.planes,
            coder.byte,
            fit.last,
            fit.shift,
            coded_units is not None,
            fit.top,
            mask,
            first,
            width,
            coded.token_bits,
            coded.field_bits,
        )
        front = b"".join((head, header, coded.states, rows, bitmap))
        start = coded.start - len(front)
        coded.data[start : coded.start] = np.frombuffer(front, np.uint8)
        return coded.data[start:].data

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if len(out) % dtype.word:
            raise CorruptError(f"record of {len(out)} bytes of {dtype.name}: there is no such thing")
        words = np.frombuffer(out, f"<u{dtype.word}")
        parts = _parse(memoryview(payload), dtype, words.size)
        if not parts.count:
            if parts.token_bits or parts.field_bits or (parts.states != parts.coder.rest).any():
                raise CorruptError("ordered-delta record has streams of no words")
            return
        in_place = parts.units is None and words.size % LANES == 0
        part = words if in_place else layout.selected(words, parts.units, "new")
        good = kernels.decode(
            part,
            parts.fit,
            parts.frequencies,
            parts.coder,
            parts.states,
            parts.data,
            parts.token_bits,
            parts.field_bits,
        )
        if not good:
            raise CorruptError("ordered-delta record's streams do not decode")
        if not in_place:
            layout.put_back(part, parts.units, words)


def _units(words: Words, old: Words) -> NDArray[np.bool_] | None:
    """The units to code; None for all of them."""
    stride = max(1, words.size // _PROBES)
    if np.count_nonzero(words[::stride] == old[::stride]) * 2 * layout.WORTHWHILE < _PROBES:
        return None  # hardly a word is as it was: not worth a look at all of them
    whole = words.size // LANES * LANES
    units = np.ones(-(-words.size // UNIT), np.bool_)
    found = kernels.changed(words[:whole], old[:whole])
    units[: found.size] = found
    if words.size != whole:  # the last few words are not worth a look
        units[-1] = True
    return layout.worth_leaving_out(units)


def plan(raw: Buffer, dtype: DType, base: Buffer) -> Plan:
    """How to code `raw`, not empty, against `base`."""
    words, old = as_words(raw, dtype), as_words(base, dtype)
    is_float, mantissa = _kind(dtype)
    last = min(kernels.MOST_CONTEXTS - 1, words.size // _WORDS_A_CONTEXT) if is_float else 0
    least = 8 if dtype.word == 8 else 0  # no field has more than 56 bits
    given = Fit(least, least // 8, 0, mantissa, 0, last, is_float)
    if words.size < UNIT:
        return Plan(given, 1.0)
    fit, bits = kernels.plan(words, old, given, _SAMPLES, _WASTE)
    return Plan(fit, bits / (8 * dtype.word))


def _kind(dtype: DType) -> tuple[bool, int]:
    """Whether words are floats with a sign, and the bits below their exponent."""
    return (True, dtype.mantissa) if dtype.exponent and dtype.mantissa >= 0 else (False, 0)


def _rows(coded: kernels.Coded) -> tuple[int, int, int, bytes]:
    """(contexts with a row, first token, how many, rows), as they are written."""
    used = coded.counts.any(axis=1)
    tokens = np.flatnonzero(coded.counts[:, :-1].any(axis=0))
    first, end = (int(tokens[0]), int(tokens[-1]) + 1) if tokens.size else (0, 0)
    rows = np.concatenate([coded.frequencies[used, first:end], coded.frequencies[used, -1:]], axis=1)
    mask = int.from_bytes(np.packbits(used, bitorder="little").tobytes(), "little")
    return mask, first, end - first, rows.astype("<u2").tobytes()


@dataclass(frozen=True, slots=True)
class _Parts:
    fit: Fit
    frequencies: kernels.Frequencies
    coder: Coder
    states: NDArray[np.uint32]
    units: NDArray[np.bool_] | None
    count: int
    data: NDArray[np.uint8]
    token_bits: int
    field_bits: int


def _parse(view: memoryview, dtype: DType, count: int) -> _Parts:
    """The parts of a payload for `count` words, every length and frequency checked."""
    if len(view) < _HEADER.size:
        raise CorruptError("ordered-delta record ends within its header")
    low, planes, coder_byte, last, shift, has_units, top, mask, first, width, token_bits, field_bits = (
        _HEADER.unpack_from(view)
    )
    bits = 8 * dtype.word
    is_float, mantissa = _kind(dtype)
    coder = of_byte(coder_byte)
    if (
        coder is None
        or last >= kernels.MOST_CONTEXTS
        or shift >= 8
        or has_units > 1
        or (low > bits - 8 and low)
        or planes > low // 8
        or (dtype.word == 8 and not planes and count)
        or top >> dtype.exponent
        or (not is_float and (last or top))
        or mask >> (last + 1)
        or first + width > bits - low
    ):
        raise CorruptError("ordered-delta record's header makes no sense")
    size = 1 << coder.table_bits
    states, rows_start = layout.parse_states(view, _HEADER.size, coder)
    contexts = mask.bit_count()
    rows_end = rows_start + 2 * contexts * (width + 1)
    units_end = rows_end + (layout.unit_bytes(count) if has_units else 0)
    if len(view) < units_end:
        raise CorruptError("ordered-delta record ends within its header")
    rows = layout.parse_rows(view[rows_start:rows_end], contexts, width + 1, size)
    units = layout.parse_units(view[rows_end:units_end], count) if has_units else None
    coded = layout.coded_count(count, units, coder, token_bits)
    if len(view) - units_end != -(-token_bits // 8) + planes * coded + -(-field_bits // 8) + kernels.PAD_BYTES:
        raise CorruptError("ordered-delta record's length does not fit its header")
    frequencies = np.zeros((last + 1, bits - low + 1), np.uint16)
    frequencies[:, -1] = size
    used = [k for k in range(last + 1) if mask >> k & 1]
    frequencies[used, first : first + width] = rows[:, :-1]
    frequencies[used, -1] = rows[:, -1]
    fit = Fit(low, planes, top, mantissa, shift, last, is_float)
    data = np.frombuffer(view[units_end:], np.uint8)
    return _Parts(fit, frequencies, coder, states, units, coded, data, token_bits, field_bits)


CODEC = OrderedDeltaCodec()
