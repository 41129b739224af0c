"""zstd frames as records hold them: magicless (RFC 8878 without its first 4 bytes), with content size, no checksum.

The record's own checksum covers the frame. The content size lets a reader refuse a frame before it allocates for it,
and lets zstd decode straight to the destination.
"""

from __future__ import annotations

import threading

import zstandard

from castore.codecs.base import Buffer
from castore.errors import CorruptError

_FORMAT = zstandard.FORMAT_ZSTD1_MAGICLESS


def _parameters(level: int, **tuning: int) -> zstandard.ZstdCompressionParameters:
    return zstandard.ZstdCompressionParameters.from_level(
        level, format=_FORMAT, write_content_size=True, write_checksum=False, write_dict_id=False, **tuning
    )


_GENERAL = _parameters(3)  # bytes that may repeat at any distance
_STRUCTURED = _parameters(1)  # planes with repeats
# Little more than the Huffman coder, for planes that are skewed but follow no pattern. Matches found there cost more
# bits than their literals, so a tiny table of long matches is both faster than level 1 (0.7 to 0.9 against 0.2 GB/s)
# and smaller; runs are still found.
_ENTROPY = _parameters(1, window_log=18, hash_log=6, min_match=7, target_length=0, strategy=zstandard.STRATEGY_FAST)


class _PerThread(threading.local):
    """zstd contexts may not be shared by threads, and cost too much to make for each call."""

    def __init__(self) -> None:
        self.general = zstandard.ZstdCompressor(compression_params=_GENERAL)
        self.structured = zstandard.ZstdCompressor(compression_params=_STRUCTURED)
        self.entropy = zstandard.ZstdCompressor(compression_params=_ENTROPY)
        self.decompressor = zstandard.ZstdDecompressor(format=_FORMAT)


_contexts = _PerThread()


def compress_general(data: Buffer) -> bytes:
    return _contexts.general.compress(data)


def compress_structured(data: Buffer) -> bytes:
    return _contexts.structured.compress(data)


def compress_entropy(data: Buffer) -> bytes:
    return _contexts.entropy.compress(data)


def decompress(frame: Buffer, raw_bytes: int) -> bytes:
    """The content of `frame`, which must be one whole frame of exactly `raw_bytes` > 0 bytes; else CorruptError.

    Nothing larger than `raw_bytes` is allocated, whatever the frame says.
    """
    try:
        header = zstandard.get_frame_parameters(frame, format=_FORMAT)
        if header.content_size != raw_bytes or header.has_checksum or header.dict_id:
            raise CorruptError(f"zstd frame is not one of {raw_bytes} bytes as castore writes it")
        data = _contexts.decompressor.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptError(f"zstd frame does not decode: {error}") from None
    if len(data) != raw_bytes:
        raise CorruptError(f"zstd frame holds {len(data)} bytes, not {raw_bytes}")
    return data
