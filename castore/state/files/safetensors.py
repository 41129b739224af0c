"""Tensors inside `.safetensors` files: u64 length of a JSON header, the header, the data.

https://github.com/huggingface/safetensors#format; like that library, nothing may overlap and nothing be left over.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TypeGuard

from castore import limits
from castore.dtypes import BY_NAME, DType
from castore.state.files.layout import ForeignContent, Layout, cover, tensor_segment
from castore.state.files.source import FileSource

PREFIX = struct.Struct("<Q")

# Name in the header -> name in castore.dtypes.
DTYPE_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}
_PACKED = "F4"  # two elements a byte: the header counts elements, torch and we count bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor. start, end: in bytes from the end of the header. shape: in elements of `dtype`, as torch has it."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int
    end: int


def looks_like(head: bytes, size: int) -> bool:
    """Whether the first 9 bytes of a file of `size` bytes could begin a safetensors file."""
    if len(head) < PREFIX.size + 1 or head[PREFIX.size : PREFIX.size + 1] != b"{":
        return False
    (header_bytes,) = PREFIX.unpack_from(head)
    return bool(header_bytes <= size - PREFIX.size)


def scan_safetensors(source: FileSource) -> Layout:
    """The layout of a safetensors file. Raises ForeignContent for one that isn't, or whose header lies."""
    (header_bytes,) = PREFIX.unpack(source.span(0, PREFIX.size))
    if header_bytes > limits.MAX_SAFETENSORS_HEADER_BYTES:
        raise ForeignContent("header larger than the limit")
    data_start = PREFIX.size + header_bytes
    entries = parse_header(source.span(PREFIX.size, header_bytes))
    position = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != position:
            raise ForeignContent("tensors overlap or leave gaps")
        position = entry.end
    if data_start + position != source.size:
        raise ForeignContent("truncated, or with bytes after its last tensor")
    tensors = [tensor_segment((entry.name,), entry.dtype, entry.shape, data_start + entry.start) for entry in entries]
    return cover(source.size, "safetensors", tensors)


def parse_header(header: bytes) -> list[Entry]:
    """The tensors that a header names, in its order, each checked in itself. Raises ForeignContent."""
    try:
        parsed = json.loads(header.decode("utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError):
        raise ForeignContent("header is no JSON") from None
    if not isinstance(parsed, dict):
        raise ForeignContent("header is no JSON object")
    return [_entry(name, about) for name, about in parsed.items() if name != "__metadata__"]


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice")
    return found


def _entry(name: str, about: object) -> Entry:
    if not isinstance(about, dict):
        raise ForeignContent("header entry is no object")
    kind, shape, offsets = about.get("dtype"), about.get("shape"), about.get("data_offsets")
    if not isinstance(kind, str) or kind not in DTYPE_NAMES:
        raise ForeignContent("a dtype that this version does not know")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2 or len(shape) > limits.MAX_TENSOR_DIMS:
        raise ForeignContent("a shape or offsets that are none")
    if not _is_utf8(name):
        raise ForeignContent("a name that is not UTF-8")
    dtype, dims = BY_NAME[DTYPE_NAMES[kind]], tuple(shape)
    if kind == _PACKED:
        if not dims or dims[-1] % 2:
            raise ForeignContent("half a byte")
        dims = (*dims[:-1], dims[-1] // 2)
    if math.prod(dims) * dtype.width != offsets[1] - offsets[0]:
        raise ForeignContent("a size that is not shape x dtype")
    return Entry(name, dtype, dims, offsets[0], offsets[1])


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
