"""Bytes (and base bytes) <-> record payload. One codec is one module and one line of the table below.

Modules are loaded on first use: reading history needs `raw` and `zstd`, which load neither NumPy nor Numba.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from castore.codecs.base import Buffer, Codec
from castore.errors import CorruptError

__all__ = [
    "EXPONENTS",
    "ORDERED_DELTA",
    "PLANES",
    "PREDICTED",
    "RAW",
    "RESIDUAL",
    "SUB_PLANES",
    "XOR_PLANES",
    "ZSTD",
    "Buffer",
    "Codec",
    "by_id",
    "known_ids",
    "name_of",
]

RAW, ZSTD, PLANES, XOR_PLANES, SUB_PLANES, RESIDUAL, ORDERED_DELTA, EXPONENTS, PREDICTED = range(9)

_MODULES = {  # id in footers, for ever -> module with a `CODEC`
    RAW: "castore.codecs.raw",
    ZSTD: "castore.codecs.zstd",
    PLANES: "castore.codecs.planes",
    XOR_PLANES: "castore.codecs.xor_planes",
    SUB_PLANES: "castore.codecs.sub_planes",
    RESIDUAL: "castore.codecs.residual",
    ORDERED_DELTA: "castore.codecs.ordered_delta",
    EXPONENTS: "castore.codecs.exponents",
    PREDICTED: "castore.codecs.predicted",
}


@cache
def by_id(codec_id: int) -> Codec:
    """The codec of a footer's byte. Raises CorruptError for one this version does not know."""
    codec: Codec = import_module(_module(codec_id)).CODEC
    return codec


def name_of(codec_id: int) -> str:
    """The name of a codec, without loading it. Raises CorruptError for one this version does not know."""
    return _module(codec_id).rpartition(".")[2].replace("_", "-")


def _module(codec_id: int) -> str:
    try:
        return _MODULES[codec_id]
    except KeyError:
        raise CorruptError(f"unknown codec {codec_id}: the store is damaged, or a newer castore wrote it") from None


def known_ids() -> tuple[int, ...]:
    """The ids of all codecs, ascending."""
    return tuple(_MODULES)
