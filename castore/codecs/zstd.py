"""Codec 1: the payload is one zstd frame (see zstd_frames); no bytes at all for no bytes."""

from __future__ import annotations

from castore.codecs import zstd_frames
from castore.codecs.base import Buffer
from castore.dtypes import DType
from castore.errors import CorruptError


class ZstdCodec:
    id = 1
    name = "zstd"
    is_delta = False
    takes_bases = False

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        return zstd_frames.compress_general(raw) if len(raw) else b""

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        if len(out):
            out[:] = zstd_frames.decompress(payload, len(out))
        elif len(payload):
            raise CorruptError(f"zstd record of no bytes holds {len(payload)}")


CODEC = ZstdCodec()
