"""The vectors of the format specification: payloads that every reader must understand, for ever."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from castore import codecs, dtypes


@dataclass(frozen=True, slots=True)
class Vector:
    """base, payload, raw: hex. canonical: our encoder writes this very payload, whatever its libraries' versions."""

    codec_id: int
    dtype: str
    payload: str
    raw: str
    base: str = ""
    canonical: bool = True


VECTORS = [
    Vector(0, "uint8", "0102ff", raw="0102ff"),
    Vector(1, "bytes", "20304d00001861626301006aba21", raw="616263" * 16, canonical=False),
    Vector(
        2,
        "float32",
        "0002000000 0001" + "0101000000 00" + "0101000000 00" + "0002000000 7f80",
        raw="0000803f 000000c0",  # 1.0, -2.0
    ),
    Vector(2, "int16", "0101000000 34" + "0101000000 12", raw="3412 3412 3412"),
    Vector(2, "uint8", "020b000000 1f61010007506161616161", raw="61" * 32, canonical=False),
    Vector(2, "uint8", "030d000000 20304500001061620100673a2c", raw="6162" * 24, canonical=False),
    Vector(3, "bfloat16", "0002000000 0100" + "0101000000 00", raw="803f 0040", base="813f 0040"),
    Vector(4, "float16", "0002000000 0102" + "0101000000 00", raw="003c 017c", base="013c 007c"),
    Vector(
        4,
        "int32",  # -1, 2, -2**31 from 0, 0, 0: zigzag 1, 4, 2**32 - 1
        "0003000000 0104ff" + "0003000000 0000ff" * 3,
        raw="ffffffff 02000000 00000080",
        base="00000000" * 3,
    ),
    Vector(
        5,
        "float32",
        "0000 01 01 0000 00000000" + "0000" * 8 + "0100803f" + "00" * 8,
        raw="0100803f",
        base="0000803f",
        canonical=False,  # never written any more
    ),
    Vector(
        6,
        "uint8",
        "0000050000000000010000064700000042000000 0000140007001a00 0c00010004000300070004000100 cc8a5e2b14b2b50000"
        "6fa164b4916526b403" + "00" * 8,
        raw="".join(f"{7 * i + i * i % 23:02x}" for i in range(20)),
        base="".join(f"{7 * i:02x}" for i in range(20)),
        canonical=False,
    ),
    Vector(
        6,
        "float8_e5m2",  # four contexts
        "00000503020017000f0000032800000013000000 1800160004000500 08000f0008000100 0b000a000a000100 0b000a000a000100"
        "1700040004000100 0a9eb13bf5 51a400" + "00" * 8,
        raw="".join(f"{(5 * i + i % 2 * 128) % 256 + i % 3:02x}" for i in range(20)),
        base="".join(f"{(5 * i + i % 2 * 128) % 256:02x}" for i in range(20)),
        canonical=False,
    ),
    Vector(
        7,
        "float64",
        "0500000208000000 18001b0012001800 1c0002000200 11 000304" + "00" * (13 + 6 * 16 + 8),
        raw="00" * 8 + "0100000000008080 0200000000000001",
        canonical=False,
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector.codec_id}-{vector.dtype}")
def test_vectors_of_the_format_decode(vector: Vector) -> None:
    out = bytearray.fromhex(vector.base or "00" * len(bytes.fromhex(vector.raw)))
    codec = codecs.by_id(vector.codec_id)
    codec.decode(bytes.fromhex(vector.payload), dtypes.by_name(vector.dtype), memoryview(out))
    assert bytes(out) == bytes.fromhex(vector.raw)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.canonical], ids=lambda v: f"{v.codec_id}-{v.dtype}")
def test_vectors_without_a_compressor_are_what_we_write(vector: Vector) -> None:
    base = bytes.fromhex(vector.base) if vector.base else None
    payload = codecs.by_id(vector.codec_id).encode(bytes.fromhex(vector.raw), dtypes.by_name(vector.dtype), base)
    assert bytes(payload) == bytes.fromhex(vector.payload)
