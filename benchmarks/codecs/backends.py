"""Compressors of one array, each called as its documentation says. Its package is imported when one is made."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np

from benchmarks.codecs.streams import Words, as_bytes


class Zstd:
    """zstd at a level, with one context for each thread."""

    def __init__(self, level: int) -> None:
        self._zstd: Any = importlib.import_module("zstandard")
        self._level = level
        self._local = threading.local()

    def compress(self, words: Words, threads: int) -> bytes:
        compressor = getattr(self._local, "compressor", None)
        if compressor is None:
            compressor = self._local.compressor = self._zstd.ZstdCompressor(level=self._level)
        result: bytes = compressor.compress(words)
        return result

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words:
        decompressor = getattr(self._local, "decompressor", None)
        if decompressor is None:
            decompressor = self._local.decompressor = self._zstd.ZstdDecompressor()
        return np.frombuffer(decompressor.decompress(payload), like.dtype)


class ZipNN:
    """Byte planes and Huffman codes; cuts what it is given into blocks of 256 KiB."""

    def __init__(self) -> None:
        self._zipnn: Any = importlib.import_module("zipnn")

    def compress(self, words: Words, threads: int) -> bytes:
        # It works in place on what it is given.
        result: bytes = self._coder(words, threads).compress(bytearray(as_bytes(words)))
        return result

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words:
        return np.frombuffer(self._coder(like, threads).decompress(payload), like.dtype)

    def _coder(self, words: Words, threads: int) -> Any:
        dtype = "float32" if words.itemsize == 4 else "bfloat16"
        return self._zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=threads)


class Pcodec:
    """Level 8, its default. integers: the words are differences, which no further model explains."""

    def __init__(self, integers: bool) -> None:
        self._pcodec: Any = importlib.import_module("pcodec")
        self._integers = integers
        plain: dict[str, Any] = {}
        if integers:  # the automatic choice finds the same here, and takes longer
            plain = {"mode_spec": self._pcodec.ModeSpec.classic(), "delta_spec": self._pcodec.DeltaSpec.no_op()}
        self._config = self._pcodec.ChunkConfig(**plain)

    def compress(self, words: Words, threads: int) -> bytes:
        result: bytes = self._pcodec.standalone.simple_compress(self._numbers(words), self._config)
        return result

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words:
        out = np.empty_like(like)
        self._pcodec.standalone.simple_decompress_into(payload, self._numbers(out))
        return out

    def _numbers(self, words: Words) -> Any:
        if words.itemsize == 2:  # it has no bf16, only fp16
            return words.view(np.int16)
        return words.view(np.int32 if self._integers else np.float32)


class OpenZL:
    """One graph. floats: sign and fraction apart from the exponent, else byte planes; every part entropy-coded."""

    def __init__(self, floats: bool) -> None:
        self._zl: Any = importlib.import_module("openzl.ext")
        self._compressors = {width: self._graph(width, floats) for width in (2, 4)}

    def _graph(self, width: int, floats: bool) -> Any:
        graphs, nodes = self._zl.graphs, self._zl.nodes
        compressor = self._zl.Compressor()
        compressor.set_parameter(self._zl.CParam.FormatVersion, self._zl.MAX_FORMAT_VERSION)
        entropy = graphs.Entropy()(compressor)
        planes = nodes.TransposeSplit()(compressor, entropy)
        if not floats:
            graph = nodes.ConvertNumToStructLE()(compressor, planes)
        elif width == 4:
            graph = nodes.Float32Deconstruct()(compressor, sign_frac=planes, exponent=entropy)
        else:
            graph = nodes.BFloat16Deconstruct()(compressor, sign_frac=entropy, exponent=entropy)
        compressor.select_starting_graph(graph)
        return compressor

    def compress(self, words: Words, threads: int) -> bytes:
        context = self._zl.CCtx()
        context.ref_compressor(self._compressors[words.itemsize])
        context.set_parameter(self._zl.CParam.FormatVersion, self._zl.MAX_FORMAT_VERSION)
        result: bytes = context.compress([self._zl.Input(self._zl.Type.Numeric, words)])
        return result

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words:
        words: Words = self._zl.DCtx().decompress(payload)[0].content.as_nparray()
        return words


class Blosc2:
    """zstd -1 behind the filters: level 5 gains 1% at most, at a fifth of the speed."""

    def __init__(self, bytedelta: bool) -> None:
        self._blosc2: Any = importlib.import_module("blosc2")
        self._bytedelta = bytedelta

    def compress(self, words: Words, threads: int) -> bytes:
        b = self._blosc2
        filters = [b.Filter.SHUFFLE, b.Filter.BYTEDELTA] if self._bytedelta else [b.Filter.SHUFFLE]
        parameters = b.CParams(
            codec=b.Codec.ZSTD,
            clevel=1,
            typesize=words.itemsize,
            filters=filters,
            filters_meta=[0, words.itemsize][: len(filters)],
            blocksize=1 << 20,
            nthreads=threads,
        )
        result: bytes = b.compress2(words, cparams=parameters)
        return result

    def decompress(self, payload: bytes, like: Words, threads: int) -> Words:
        out = np.empty_like(like)
        self._blosc2.decompress2(payload, dst=out, dparams=self._blosc2.DParams(nthreads=threads))
        return out
