"""Codec 0: the payload is the raw bytes."""

from __future__ import annotations

from castore.codecs.base import Buffer
from castore.dtypes import DType
from castore.errors import CorruptError


class RawCodec:
    id = 0
    name = "raw"
    is_delta = False
    takes_bases = False

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        return raw

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if len(payload) != len(out):
            raise CorruptError(f"raw record holds {len(payload)} bytes, not {len(out)}")
        if payload is not out:  # else it was read to where it belongs
            out[:] = payload


CODEC = RawCodec()
