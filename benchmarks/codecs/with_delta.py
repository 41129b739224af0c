"""The peers that have a delta of their own."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np

from benchmarks.codecs import transforms
from benchmarks.codecs.backends import Zstd
from benchmarks.codecs.coder import BytesCoder
from benchmarks.codecs.streams import Stream, Words, as_bytes

BLOCK_BYTES = 2 << 20


class TensorX(BytesCoder):
    """TensorDex's codec: XOR, byte planes, one zstd -1 frame for each 2 MiB (src/rust/kernels/tensorx.rs there)."""

    def __init__(self, with_base: bool) -> None:
        super().__init__("xor" if with_base else "alone", "pool")
        self._with_base = with_base
        self._zstd = Zstd(1)
        self._local = threading.local()

    def unit(self, width: int) -> int | None:
        return BLOCK_BYTES // width

    def encode(self, part: Stream, threads: int) -> bytes:
        planes, zeros = self._scratch(part.new)
        transforms.split_xor(part.new, part.old if self._with_base else zeros, planes)
        return self._zstd.compress(planes, threads)

    def decode(self, payload: bytes, part: Stream, out: Words, threads: int) -> None:
        planes, zeros = self._scratch(part.new)
        coded = self._zstd.decompress(payload, planes, threads).reshape(planes.shape)
        transforms.join_xor(coded, part.old if self._with_base else zeros, out)

    def _scratch(self, words: Words) -> tuple[Any, Words]:
        """Planes to fill, and as many zero words: memory of the thread's own."""
        scratch: dict[tuple[int, int], tuple[Any, Words]] = self._local.__dict__.setdefault("scratch", {})
        key = (words.itemsize, words.size)
        if key not in scratch:
            scratch[key] = (np.empty(key, np.uint8), np.zeros_like(words))
        return scratch[key]


class Z4ai(BytesCoder):
    """rANS and zstd over planes; its delta is an XOR, with a digest of the older checkpoint that the decoder checks."""

    def __init__(self, with_base: bool) -> None:
        super().__init__("xor" if with_base else "alone", "own")
        self._with_base = with_base
        self._z4ai: Any = importlib.import_module("z4ai")

    def unit(self, width: int) -> int | None:
        return None

    def encode(self, part: Stream, threads: int) -> bytes:
        options: dict[str, Any] = {"dtype": "fp32" if part.new.itemsize == 4 else "bf16", "threads": threads}
        new = as_bytes(part.new)
        if self._with_base:
            delta: bytes = self._z4ai.compress_delta(new, as_bytes(part.old), **options)
            return delta
        alone: bytes = self._z4ai.compress(new, **options)
        return alone

    def decode(self, payload: bytes, part: Stream, out: Words, threads: int) -> None:
        target = as_bytes(out)
        if self._with_base:
            self._z4ai.decompress_delta(payload, as_bytes(part.old), out=target)
        else:
            self._z4ai.decompress(payload, out=target)
