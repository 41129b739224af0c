"""What a codec is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from castore.dtypes import DType

Buffer = bytes | bytearray | memoryview


class Codec(Protocol):
    """Turns the raw bytes of one chunk into a record's payload and back; exact for every bit pattern.

    id: the byte in footers; never reused. name: as in `stats`.
    is_delta: the payload is a difference to a base of the same length and dtype. takes_bases: it needs the bytes of
    several chunks of any length, or of one that is not its base in that sense: see `decode_from` of `FromBases`.
    Implementations keep no state between calls that a caller could see, and may be called from many threads.
    """

    id: int
    name: str
    is_delta: bool
    takes_bases: bool

    def encode(self, raw: Buffer, dtype: DType, base: Buffer | None) -> Buffer:
        """The payload of `raw`. `base` is given exactly when `is_delta`, with as many bytes as `raw`.

        It may be memory of the calling thread's own that its next call of any codec overwrites.
        """
        ...

    def decode(self, payload: Buffer, dtype: DType, out: memoryview) -> None:
        """Write the raw bytes into `out`, a writable memoryview ("B") of exactly the raw length.

        For a delta codec `out` holds the base's bytes on entry and is updated in place. Raises CorruptError for a
        payload that is not one: truncated, overlong, inconsistent. `out` is then undefined.
        """
        ...


@runtime_checkable
class FromBases(Protocol):
    """What a codec has besides, if it `takes_bases`; its `decode` is not used then."""

    def decode_from(self, payload: Buffer, dtype: DType, out: memoryview, bases: Sequence[memoryview]) -> None:
        """Write the raw bytes into `out`, uninitialised, from the payload and the raw bytes of the record's bases.

        Raises CorruptError for a payload that is not one, or bases that do not fit it.
        """
        ...
