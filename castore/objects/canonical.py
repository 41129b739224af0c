"""Canonical (deterministic) CBOR: RFC 8949 section 4.2.1, by the cbor2 library, with bounds on what is read."""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import cbor2

from castore import limits
from castore.errors import CorruptError, StateError

_MAX_DEPTH = 4 * limits.MAX_TREE_NESTING  # of arrays; a level of a tree takes up to three


def _refuse(*_: object) -> NoReturn:
    raise ValueError("it has a tag that castore does not write")


# Every tag that the library knows but big integers (2, 3). Shared references (28, 29) above all: with them a few bytes
# make a list that holds itself twice, and walking that takes for ever.
_TAGS = (0, 1, 4, 5, 25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_REFUSED = dict.fromkeys(_TAGS, _refuse)


def dumps(value: object) -> bytes:
    """The one encoding of a value: shortest forms, definite lengths, sorted keys."""
    return cbor2.dumps(value, canonical=True)


@functools.lru_cache(1 << 12)
def short_text(value: str) -> bytes:
    """The same of a text that comes again and again, as keys and kinds do."""
    return dumps(value)


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
    if len(data) > limits.MAX_CBOR_BYTES:
        raise CorruptError(f"{what} is larger than an object may be")
    try:
        return cbor2.loads(
            data,
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            tag_hook=_refuse,
            semantic_decoders=_REFUSED,
            strict_hashable_types=True,  # integers as keys can be chosen to collide: a map of them takes for ever
        )
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise CorruptError(f"{what} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}") from error
