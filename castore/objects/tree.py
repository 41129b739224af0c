"""Trees as canonical CBOR objects with fan-out.

A node is an array that starts with a number for its type; plain values stand for themselves. A container whose items
take more than a few KiB is cut into segments, objects of their own, where the hash of a key says so: when one tensor
of 20,000 changes, one segment and the list of segments change with it, and nothing else. docs/format.md has the types.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import xxhash

from castore import limits
from castore.chunks import pack
from castore.errors import StateError
from castore.objects import nodes
from castore.objects.canonical import array_head, dumps, short_text

FLOAT, TENSOR, VIEW, SHARED, COMPOUND, MAP, SEQUENCE, FILE, DIRECTORY = range(1, 10)

_INLINE_BYTES = 8 << 10  # a container's items stay in its own node up to this size
_SEGMENT_MIN_BYTES = 2 << 10
_SEGMENT_MAX_BYTES = 16 << 10
_CUT_MASK = 31  # one key in 32 ends a segment
_SHORT_TEXT = 64  # characters, of a text whose encoding is kept
_INLINE_CHUNKS_BYTES = 4 << 10  # longer lists of chunk ids are objects of their own

PutObject = Callable[[int, bytes], bytes]  # kind, data -> id


class TreeWriter:
    """Encodes a tree bottom-up, storing each object as it is complete."""

    def __init__(self, put_object: PutObject) -> None:
        self._put = put_object
        self._nodes_left = limits.MAX_TREE_NODES

    def write(self, root: nodes.Node) -> bytes:
        """Store a tree; returns the id of its root object."""
        return self._put(pack.TREE, self._node(root, 0))

    def _node(self, node: nodes.Node, depth: int) -> bytes:
        if depth > limits.MAX_TREE_NESTING:
            raise StateError(f"the state nests deeper than {limits.MAX_TREE_NESTING} levels; flatten it")
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise StateError(f"the state holds more than {limits.MAX_TREE_NODES} values; keep numbers in arrays")
        if isinstance(node, nodes.Value):
            return self._value(node.value)
        if isinstance(node, nodes.Tensor):
            return self._tensor(node)
        if isinstance(node, nodes.Map):
            items = [self._node(key, depth + 1) for key, _ in node.items]
            pairs = [key + self._node(item, depth + 1) for key, (_, item) in zip(items, node.items, strict=True)]
            return self._array(dumps(MAP), short_text(node.kind), self._items(pairs, items, per_item=2))
        if isinstance(node, nodes.Sequence):
            items = [self._node(item, depth + 1) for item in node.items]
            return self._array(dumps(SEQUENCE), short_text(node.kind), self._items(items, None, per_item=1))
        if isinstance(node, nodes.Compound):
            parts = [self._node(part, depth + 1) for part in node.parts]
            return self._array(dumps(COMPOUND), dumps(node.kind), array_head(len(parts)) + b"".join(parts))
        if isinstance(node, nodes.Directory):
            keys = [dumps(name) for name in node.entries]
            pairs = [key + self._node(entry, depth + 1) for key, entry in zip(keys, node.entries.values(), strict=True)]
            return self._array(dumps(DIRECTORY), self._items(pairs, keys, per_item=2))
        if isinstance(node, nodes.File):
            pairs = [dumps(list(path)) + self._node(data, depth + 1) for path, data in node.segments]
            keys = [dumps(list(path)) for path, _ in node.segments]
            head = (dumps(FILE), dumps(node.size), dumps(node.format), dumps(node.note))
            return self._array(*head, self._items(pairs, keys, per_item=2))
        if isinstance(node, nodes.Shared):
            return self._array(dumps(SHARED), dumps(node.number), self._tensor(node.data), self._view(node.view))
        return self._view(node)

    @staticmethod
    def _array(*items: bytes) -> bytes:
        return array_head(len(items)) + b"".join(items)

    @staticmethod
    def _value(value: nodes.Scalar) -> bytes:
        if type(value) is str and len(value) <= _SHORT_TEXT:
            return short_text(value)
        if isinstance(value, float):
            return dumps([FLOAT, struct.pack("<d", value)])  # CBOR's shortest floats would lose a NaN's payload
        return dumps(value)

    def _tensor(self, t: nodes.Tensor) -> bytes:
        chunks: bytes | list[bytes] = t.chunks
        if len(t.chunks) > _INLINE_CHUNKS_BYTES:
            chunks = [self._put(pack.CHUNK_LIST, t.chunks)]
        return dumps([TENSOR, t.kind, t.dtype, list(t.shape), t.requires_grad, t.numpy_dtype, chunks])

    @staticmethod
    def _view(v: nodes.View) -> bytes:
        shape, stride = list(v.shape), list(v.stride)
        return dumps([VIEW, v.base, v.kind, v.dtype, shape, stride, v.offset, v.requires_grad])

    def _items(self, encoded: list[bytes], keys: list[bytes] | None, per_item: int) -> bytes:
        """A container's items: an array, or the ids of segments in one byte string when they take more room."""
        if sum(map(len, encoded)) <= _INLINE_BYTES:
            return array_head(per_item * len(encoded)) + b"".join(encoded)
        ids = []
        start, size = 0, 0
        for number, item in enumerate(encoded):
            size += len(item)
            cut = keys is not None and xxhash.xxh32_intdigest(keys[number]) & _CUT_MASK == 0
            full = size >= (_SEGMENT_MAX_BYTES if keys is not None else _INLINE_BYTES)
            if full or (cut and size >= _SEGMENT_MIN_BYTES):
                ids.append(self._segment(encoded[start : number + 1], per_item))
                start, size = number + 1, 0
        if start < len(encoded):
            ids.append(self._segment(encoded[start:], per_item))
        return dumps(b"".join(ids))

    def _segment(self, items: list[bytes], per_item: int) -> bytes:
        return self._put(pack.TREE, array_head(per_item * len(items)) + b"".join(items))
