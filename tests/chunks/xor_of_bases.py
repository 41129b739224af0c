"""A codec of several bases for tests: the payload is the raw bytes XOR each base, turned by its number.

Bases may be of any length: a base is repeated, or cut, to the length of the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence

from castore.codecs.base import Buffer
from castore.dtypes import DType
from castore.errors import CorruptError

ID = 200


def xor_of_bases(data: Buffer, bases: Sequence[Buffer]) -> bytes:
    """`data` XOR all bases: raw bytes to payload, and back."""
    found = bytearray(data)
    for number, base in enumerate(map(bytes, bases)):
        for at in range(len(found)):
            found[at] ^= (base[(at + number) % len(base)] + number) % 256 if base else number
    return bytes(found)


class XorOfBases:
    id = ID
    name = "xor-of-bases"
    is_delta = True
    takes_bases = True

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        return xor_of_bases(raw, [base] if base is not None else [])

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        raise AssertionError("a codec of several bases is asked by decode_from")

    def decode_from(self, payload: Buffer, dtype: DType, out: memoryview, bases: Sequence[memoryview]) -> None:
        if len(payload) != len(out):
            raise CorruptError(f"record holds {len(payload)} bytes, not {len(out)}")
        self.decoded += 1
        out[:] = b"\xaa" * len(out)  # what it held means nothing
        out[:] = xor_of_bases(payload, bases)


CODEC = XorOfBases()
