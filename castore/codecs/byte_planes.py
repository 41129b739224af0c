"""What codecs 2, 3 and 4 share: how byte planes lie in a payload, and how each is stored.

A payload is, for each byte of the dtype's word, least significant first:

    offset  bytes  field
    0       1      method: 0 raw, 1 constant, 2 lz4 block, 3 zstd frame
    1       4      length of the data, unsigned little-endian
    5       length data

and nothing after the last. A plane holds n = raw length / word bytes. Raw: n bytes. Constant: 1 byte, repeated n times.
lz4: one block without a size. zstd: one frame as in `zstd_frames`. For n = 0 every plane is raw and empty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import lz4.block
import numpy as np

from castore.codecs import zstd_frames
from castore.codecs.assembly import assembled
from castore.codecs.base import Buffer
from castore.codecs.sampling import PROBE_BYTES, RAW_BITS, Sample, probe, sample_rows
from castore.dtypes import DType
from castore.errors import CorruptError
from castore.kernels import planes as kernels
from castore.kernels import reference, scratch
from castore.kernels.reference import Bytes, Transform, Words

RAW, CONSTANT, LZ4, ZSTD = range(4)

_Split = Callable[[Transform, Words, "Words | None", Bytes], None]

_HEADER = struct.Struct("<BI")
_WORTHWHILE = 0.98  # a plane that saves less than 2% is stored raw, for the reader's sake
_LZ4_PRICE = 1.03  # lz4 decodes several times faster than zstd: worth 3% of the plane's stored size
_ROW_ALIGN = 64  # between rows of scratch: a power of two there would put all planes into the same cache sets


def _planes(width: int, count: int) -> Bytes:
    """Uninitialised planes [width, count], valid until this thread's next call."""
    stride = -(-count // _ROW_ALIGN) * _ROW_ALIGN + _ROW_ALIGN
    return scratch.array("byte planes", width * stride, np.uint8).reshape(width, stride)[:, :count]


@dataclass(frozen=True, slots=True)
class PlaneCodec:
    """Codec 2, 3 or 4, by its transforms; the payload is as this module says."""

    id: int
    name: str
    is_delta: bool
    of_integers: Transform
    of_floats: Transform
    takes_bases: bool = False

    def transform(self, dtype: DType) -> Transform:
        return self.of_floats if dtype.exponent and dtype.word > 1 else self.of_integers

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        return self._encode(kernels.split, raw, dtype, base)

    def encode_without_kernels(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        """The same bytes, however many there are, at a fifth of the speed and nothing of Numba loaded for it."""
        return self._encode(reference.split, raw, dtype, base)

    def _encode(self, split: _Split, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        if (base is not None) != self.is_delta:
            raise ValueError(f"codec {self.name}: base {'missing' if self.is_delta else 'not wanted'}")
        words = as_words(raw, dtype)
        planes = _planes(dtype.word, words.size)
        split(self.transform(dtype), words, None if base is None else as_words(base, dtype), planes)
        sample = sample_rows(planes) if words.size else None
        parts: list[Buffer] = []
        for index, plane in enumerate(planes):
            method, data = _store(plane, sample, index)
            parts += (_HEADER.pack(method, len(data)), data)
        return assembled(parts)

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if len(out) % dtype.word:
            raise CorruptError(f"record of {len(out)} bytes holds no whole words of {dtype.word}")
        words = np.frombuffer(out, f"<u{dtype.word}")
        kernels.join(self.transform(dtype), _parse(payload, dtype.word, words.size), words)


def as_words(raw: Buffer, dtype: DType) -> Words:
    """`raw` as the unsigned words of `dtype`, not copied. Raises ValueError if there are no whole words."""
    if len(raw) % dtype.word:
        raise ValueError(f"{len(raw)} bytes are no whole words of {dtype.word}")
    return np.frombuffer(raw, f"<u{dtype.word}")


def _store(plane: Bytes, sample: Sample | None, index: int) -> tuple[int, Buffer]:
    """The cheapest method for one plane, judged by its bytes' entropy and a probe for repeats, and its data."""
    if sample is None:
        return RAW, b""
    bits = sample.bits[index]
    if bits == 0.0 and (plane == plane[0]).all():
        return CONSTANT, plane[:1].tobytes()
    structured = probe(plane) < 0.9 * max(bits, 0.05) / 8
    if bits > RAW_BITS and not structured:
        return RAW, plane.data
    if not structured:
        method, data = ZSTD, zstd_frames.compress_entropy(plane.data)
    elif _prefers_lz4(plane):
        method, data = LZ4, lz4.block.compress(plane.data, store_size=False)
    else:
        method, data = ZSTD, zstd_frames.compress_structured(plane.data)
    return (method, data) if len(data) < _WORTHWHILE * plane.size else (RAW, plane.data)


def _prefers_lz4(plane: Bytes) -> bool:
    start = max(0, (plane.size - PROBE_BYTES) // 2)
    part = plane[start : start + PROBE_BYTES].data
    fast = len(lz4.block.compress(part, store_size=False))
    return fast <= _LZ4_PRICE * len(zstd_frames.compress_structured(part))


def _parse(payload: Buffer, width: int, count: int) -> list[Bytes]:
    """The planes of a payload; raw ones are views of it. Every length is checked before it is used."""
    view = memoryview(payload)
    planes: list[Bytes] = []
    scratch = _planes(width, count)
    position = 0
    for row in scratch:
        if len(view) - position < _HEADER.size:
            raise CorruptError("planes record ends within a plane's header")
        method, length = _HEADER.unpack_from(view, position)
        position += _HEADER.size
        if length > len(view) - position:
            raise CorruptError(f"planes record ends within a plane of {length} bytes")
        planes.append(_load(method, view[position : position + length], row))
        position += length
    if position != len(view):
        raise CorruptError(f"planes record has {len(view) - position} bytes too many")
    return planes


def _load(method: int, data: memoryview, row: Bytes) -> Bytes:
    count = row.size
    if method == RAW and len(data) == count:
        return np.frombuffer(data, np.uint8)
    if method == CONSTANT and len(data) == 1 and count:
        row[:] = data[0]
        return row
    if method == LZ4 and count:
        try:
            plane = lz4.block.decompress(data, uncompressed_size=count)
        except (lz4.block.LZ4BlockError, ValueError) as error:
            raise CorruptError(f"lz4 plane does not decode: {error}") from None
        if len(plane) != count:
            raise CorruptError(f"lz4 plane holds {len(plane)} bytes, not {count}")
        return np.frombuffer(plane, np.uint8)
    if method == ZSTD and count:
        return np.frombuffer(zstd_frames.decompress(data, count), np.uint8)
    raise CorruptError(f"plane of method {method} and {len(data)} bytes does not hold {count}")
