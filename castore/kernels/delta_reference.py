"""What the ordered-delta coder means, in NumPy and plain Python: slow, and bit for bit the same as `delta_native`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from castore.kernels import coder_reference as coders
from castore.kernels.coder import Coder
from castore.kernels.delta import Fit, Frequencies
from castore.kernels.reference import Words, ordered, unzigzag, zigzag

GROUP_BYTES = 8  # words whose fields lie together


@dataclass(frozen=True, slots=True)
class Streams:
    """states: the decoder's first. planes: the lowest byte of all words, then the next. Lengths are in bits."""

    states: list[int]
    tokens: bytes
    token_bits: int
    planes: bytes
    fields: bytes
    field_bits: int


def values(words: Words, base: Words, fit: Fit) -> Words:
    """y: the zigzag of the wrapping difference in the words' order, plus 2**low; smaller than that where it wrapped."""
    found: Words = zigzag(_in_order(words, fit) - _in_order(base, fit)) + words.dtype.type(1 << fit.low)
    return found


def restored(y: Words, base: Words, fit: Fit) -> Words:
    """The inverse of `values`."""
    return _in_order(_in_order(base, fit) + unzigzag(y - y.dtype.type(1 << fit.low)), fit)


def tokens(y: Words, fit: Fit) -> list[int]:
    """floor(log2 y) - low; the last token for what wrapped."""
    last = fit.tokens(y.dtype) - 1
    return [value.bit_length() - 1 - fit.low if value >> fit.low else last for value in y.tolist()]


def contexts(base: Words, fit: Fit) -> list[int]:
    """How far each exponent lies below the top one, in steps of 2**shift, from 0 to the last."""
    magnitudes = base & base.dtype.type((1 << (8 * base.itemsize - 1)) - 1)
    return [min(max(fit.top - (one >> fit.mantissa), 0) >> fit.shift, fit.last) for one in magnitudes.tolist()]


def encode(words: Words, base: Words, fit: Fit, frequencies: Frequencies, coder: Coder) -> Streams:
    """Code `words` [n] as differences to `base` [n], n a multiple of 16."""
    y, places = values(words, base, fit), contexts(base, fit)
    exact = tokens(y, fit)
    states, stream, length = coders.encode(coder, exact, places, frequencies)
    last = fit.tokens(y.dtype) - 1
    kept = [token if frequencies[place, token] else last for token, place in zip(exact, places, strict=True)]
    planes = b"".join((y >> y.dtype.type(8 * k)).astype(np.uint8).tobytes() for k in range(fit.planes))
    fields, field_bits = _put_fields(y, kept, fit)
    return Streams(states, stream, length, planes, fields, field_bits)


def decode(base: Words, fit: Fit, frequencies: NDArray[Any], coder: Coder, streams: Streams) -> Words | None:
    """The words; None if the streams are damaged."""
    places = contexts(base, fit)
    found = coders.decode(coder, places, frequencies, streams.states, streams.tokens, streams.token_bits)
    if found is None:
        return None
    y = _get_fields(streams, found, base.dtype, fit)
    if y is None:
        return None
    for k, plane in enumerate(np.frombuffer(streams.planes, np.uint8).reshape(fit.planes, base.size)):
        y |= plane.astype(y.dtype) << y.dtype.type(8 * k)
    return restored(y, base, fit)


def field_bits_of(token: int, word: np.dtype[Any], fit: Fit) -> int:
    """How many bits lie between a value's planes and its leading bit; all above the planes for the last token."""
    above = 8 * fit.planes
    return 8 * word.itemsize - above if token == fit.tokens(word) - 1 else token + fit.low - above


def _put_fields(y: Words, kept: list[int], fit: Fit) -> tuple[bytes, int]:
    """The field stream and its bits: groups from the last to the first, in each the lowest word in the lowest bits."""
    group = GROUP_BYTES // y.itemsize
    stream = length = 0
    for start in reversed(range(0, y.size, group)):
        for i in range(start, start + group):
            bits = field_bits_of(kept[i], y.dtype, fit)
            stream |= (int(y[i]) >> 8 * fit.planes & (1 << bits) - 1) << length
            length += bits
    return stream.to_bytes(-(-length // 8), "little"), length


def _get_fields(streams: Streams, found: list[int], word: np.dtype[Any], fit: Fit) -> Words | None:
    """The values without their planes; None if their fields take another number of bits than there are."""
    group = GROUP_BYTES // word.itemsize
    stream, position = int.from_bytes(streams.fields, "little"), streams.field_bits
    last = fit.tokens(word) - 1
    y = []
    for start in range(0, len(found), group):
        sizes = [field_bits_of(token, word, fit) for token in found[start : start + group]]
        position -= sum(sizes)
        if position < 0:
            return None
        at = position
        for token, bits in zip(found[start : start + group], sizes, strict=True):
            leading = 0 if token == last else 1 << bits
            y.append((leading | stream >> at & (1 << bits) - 1) << 8 * fit.planes)
            at += bits
    return np.array(y, word) if position == 0 else None


def _in_order(words: Words, fit: Fit) -> Words:
    return ordered(words) if fit.is_float else words
