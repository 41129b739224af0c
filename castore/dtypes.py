"""The element types that a record or a tree can name, by a code that never changes (docs/format.md)."""

from __future__ import annotations

from dataclasses import dataclass

from castore.errors import CorruptError


@dataclass(frozen=True, slots=True)
class DType:
    """An element type.

    code: the byte in footers. name: torch's name without `torch.`, or NumPy's.
    width: bytes of one element. word: bytes of the numeric word that codecs work on (complex64 is two 4-byte words).
    exponent: bits of the exponent field of a floating-point word; 0 for integers and plain bytes.
    """

    code: int
    name: str
    width: int
    word: int
    exponent: int = 0

    @property
    def mantissa(self) -> int:
        """Bits below the exponent of a floating-point word with a sign; -1 for one that has none."""
        return 8 * self.word - 1 - self.exponent


BYTES = DType(0, "bytes", 1, 1)  # no numeric meaning: parts of files, objects

_ALL = (
    BYTES,
    DType(1, "uint8", 1, 1),
    DType(2, "int8", 1, 1),
    DType(3, "bool", 1, 1),
    DType(4, "uint16", 2, 2),
    DType(5, "int16", 2, 2),
    DType(6, "uint32", 4, 4),
    DType(7, "int32", 4, 4),
    DType(8, "uint64", 8, 8),
    DType(9, "int64", 8, 8),
    DType(16, "float16", 2, 2, 5),
    DType(17, "bfloat16", 2, 2, 8),
    DType(18, "float32", 4, 4, 8),
    DType(19, "float64", 8, 8, 11),
    DType(24, "complex32", 4, 2, 5),
    DType(25, "complex64", 8, 4, 8),
    DType(26, "complex128", 16, 8, 11),
    DType(32, "float8_e4m3fn", 1, 1, 4),
    DType(33, "float8_e4m3fnuz", 1, 1, 4),
    DType(34, "float8_e5m2", 1, 1, 5),
    DType(35, "float8_e5m2fnuz", 1, 1, 5),
    DType(36, "float8_e8m0fnu", 1, 1, 8),
    DType(37, "float4_e2m1fn_x2", 1, 1),  # two values a byte: no word of its own
)

BY_CODE = {dtype.code: dtype for dtype in _ALL}
BY_NAME = {dtype.name: dtype for dtype in _ALL}


def by_code(code: int) -> DType:
    """The dtype of a footer's byte. Raises CorruptError for a code this version does not know."""
    try:
        return BY_CODE[code]
    except KeyError:
        raise CorruptError(f"unknown dtype code {code}: the store is damaged, or a newer castore wrote it") from None


def by_name(name: str) -> DType:
    """The dtype of a tree entry's name. Raises CorruptError for a name this version does not know."""
    try:
        return BY_NAME[name]
    except KeyError:
        raise CorruptError(f"unknown dtype {name!r}: the store is damaged, or a newer castore wrote it") from None
