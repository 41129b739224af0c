"""What a tree's objects refer to, object by object, without building nodes: gc skips what it has seen before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from castore import limits
from castore.errors import CorruptError
from castore.objects.canonical import loads
from castore.objects.tree import COMPOUND, DIRECTORY, FILE, FLOAT, MAP, SEQUENCE, SHARED, TENSOR, VIEW


@dataclass(slots=True)
class References:
    """chunks: ids one after another. segments, lists: ids of objects (parts of containers; lists of chunk ids)."""

    chunks: bytearray = field(default_factory=bytearray)
    segments: list[bytes] = field(default_factory=list)
    lists: list[bytes] = field(default_factory=list)


def of_node(data: bytes, hash_size: int) -> References:
    """The references of a tree's root object. Raises CorruptError."""
    return _collected([loads(data, "a tree")], hash_size)


def of_segment(data: bytes, hash_size: int) -> References:
    """The references of a segment: an array of nodes. Raises CorruptError."""
    items = loads(data, "a segment of a tree")
    if type(items) is not list:
        raise CorruptError("a segment of a tree is not an array; run `castore fsck`")
    return _collected(items, hash_size)


def _collected(items: list[Any], hash_size: int) -> References:
    found = References()
    try:
        for item in items:
            _node(item, found, hash_size, 0)
    except (TypeError, IndexError) as error:
        raise CorruptError(f"a tree holds a malformed node: {error}; run `castore fsck`") from error
    if len(found.chunks) % hash_size or any(type(one) is not bytes or len(one) != hash_size for one in found.lists):
        raise CorruptError("a tree holds an id of the wrong size; run `castore fsck`")
    return found


def _node(value: Any, found: References, hash_size: int, depth: int) -> None:
    if type(value) is not list or not value or type(value[0]) is not int:
        return  # a plain value, or a path
    if depth > limits.MAX_TREE_NESTING:
        raise CorruptError("a tree nests deeper than any state; run `castore fsck`")
    tag = value[0]
    if tag == TENSOR:
        chunks = value[-1]
        if type(chunks) is list:
            found.lists.extend(chunks)
        else:
            found.chunks += chunks
    elif tag in (MAP, SEQUENCE, FILE, DIRECTORY):
        items = value[-1]
        if type(items) is bytes:
            if len(items) % hash_size:
                raise CorruptError("a tree's list of segments is truncated; run `castore fsck`")
            found.segments.extend(items[i : i + hash_size] for i in range(0, len(items), hash_size))
        else:
            for item in items:
                _node(item, found, hash_size, depth + 1)
    elif tag == COMPOUND:
        for part in value[2]:
            _node(part, found, hash_size, depth + 1)
    elif tag == SHARED:
        _node(value[2], found, hash_size, depth + 1)
    elif tag not in (FLOAT, VIEW):
        raise CorruptError(f"a tree holds a node of unknown type {tag}: a newer castore wrote it, or it is damaged")
