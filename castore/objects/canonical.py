"""Canonical (deterministic) CBOR: RFC 8949 section 4.2.1, by the cbor2 library, with bounds on what is read."""

from __future__ import annotations

from typing import Any

import cbor2

from castore import limits
from castore.errors import CorruptError, StateError


def dumps(value: object) -> bytes:
    """The one encoding of a value: shortest forms, definite lengths, sorted keys."""
    return cbor2.dumps(value, canonical=True)


def array_head(length: int) -> bytes:
    """The head of an array whose items follow, already encoded (RFC 8949, major type 4)."""
    if length < 24:
        return bytes([0x80 | length])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if length < 1 << (8 * size):
            return bytes([0x80 | code]) + length.to_bytes(size, "big")
    raise StateError("a container of more than 2**64 items cannot be stored")


def loads(data: bytes, what: str) -> Any:
    """Decode an object. Raises CorruptError for what is not CBOR. What it may hold is checked where it is used."""
    if len(data) > limits.MAX_OBJECT_BYTES:
        raise CorruptError(f"{what} is larger than an object may be")
    try:
        return cbor2.loads(data, allow_indefinite=False)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise CorruptError(f"{what} cannot be read: {str(error).splitlines()[0]}") from error
