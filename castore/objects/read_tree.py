"""Reading trees back, every field checked: a tree may come from a hostile store."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from castore import dtypes, limits
from castore.chunks import pack
from castore.errors import CorruptError
from castore.objects import nodes
from castore.objects.canonical import loads
from castore.objects.tree import COMPOUND, DIRECTORY, FILE, FLOAT, MAP, SEQUENCE, SHARED, TENSOR, VIEW

GetObject = Callable[[bytes, int], bytes]  # id, kind -> data


class TreeReader:
    """Decodes a tree's objects into nodes. `hash_size`: of the store's ids, in bytes."""

    def __init__(self, get_object: GetObject, hash_size: int) -> None:
        self._get = get_object
        self._hash_size = hash_size
        self._objects_left = limits.MAX_TREE_OBJECTS
        self._nodes_left = limits.MAX_TREE_NODES
        self.object_ids: list[tuple[bytes, int]] = []  # every object that was read, with its kind, for gc and fsck

    def read(self, tree_id: bytes) -> nodes.Node:
        """The tree of a root object. Raises CorruptError, MissingError."""
        return self._node(loads(self._object(tree_id, pack.TREE), f"tree {tree_id.hex()}"), 0)

    def _object(self, object_id: bytes, kind: int) -> bytes:
        self._objects_left -= 1
        if self._objects_left < 0:
            raise CorruptError("a tree refers to more objects than any state has; run `castore fsck`")
        self.object_ids.append((object_id, kind))
        return self._get(object_id, kind)

    def _node(self, value: Any, depth: int) -> nodes.Node:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise CorruptError("a tree holds more values than any state has; run `castore fsck`")
        if value is None or type(value) in (bool, int, str, bytes):
            return nodes.Value(value)
        if type(value) is not list or not value or type(value[0]) is not int:
            raise CorruptError("a tree holds something that castore does not write")
        if depth > limits.MAX_TREE_NESTING:
            raise CorruptError(f"a tree nests deeper than {limits.MAX_TREE_NESTING} levels")
        parse = _PARSERS.get(value[0])
        if parse is None:
            raise CorruptError(
                f"a tree holds a node of unknown type {value[0]}: a newer castore wrote it, or it is damaged"
            )
        try:
            return parse(self, depth + 1, *value[1:])
        except (TypeError, ValueError, struct.error) as error:
            raise CorruptError(f"a tree holds a malformed node: {error}") from error

    def _float(self, depth: int, data: bytes) -> nodes.Node:
        (number,) = struct.unpack("<d", data)
        return nodes.Value(number)

    def _tensor(
        self, depth: int, kind: str, dtype: str, shape: list[int], grad: bool, numpy_dtype: str, chunks: Any
    ) -> nodes.Tensor:
        if type(kind) is not str or type(grad) is not bool or type(numpy_dtype) is not str:
            raise CorruptError("a tree holds a tensor with a field of the wrong type")
        if dtype not in dtypes.BY_NAME:
            dtypes.by_name(dtype)
        if type(chunks) is list:
            (list_id,) = chunks
            chunks = self._object(self._id(list_id), pack.CHUNK_LIST)
        if type(chunks) is not bytes or len(chunks) % self._hash_size:
            raise CorruptError("a tensor's list of chunk ids is truncated")
        return nodes.Tensor(kind, dtype, _sizes(shape), grad, numpy_dtype, chunks)

    def _view(
        self, depth: int, base: int, kind: str, dtype: str, shape: list[int], stride: list[int], offset: int, grad: bool
    ) -> nodes.View:
        _check(kind, str), _check(grad, bool), _sizes([base, offset])
        dtypes.by_name(dtype)
        return nodes.View(base, kind, dtype, _sizes(shape), _sizes(stride), offset, grad)

    def _shared(self, depth: int, number: int, data: list[Any], view: list[Any]) -> nodes.Node:
        base, first = self._node(data, depth), self._node(view, depth)
        if not isinstance(base, nodes.Tensor) or not isinstance(first, nodes.View):
            raise CorruptError("a tree holds shared memory without its tensor")
        return nodes.Shared(_sizes([number])[0], base, first)

    def _compound(self, depth: int, kind: str, parts: list[Any]) -> nodes.Node:
        return nodes.Compound(_check(kind, str), [self._node(part, depth) for part in _check(parts, list)])

    def _map(self, depth: int, kind: str, items: Any) -> nodes.Node:
        flat = self._items(items, 2)
        pairs = [(self._node(k, depth), self._node(v, depth)) for k, v in zip(flat[::2], flat[1::2], strict=True)]
        return nodes.Map(_check(kind, str), pairs)

    def _sequence(self, depth: int, kind: str, items: Any) -> nodes.Node:
        return nodes.Sequence(_check(kind, str), [self._node(item, depth) for item in self._items(items, 1)])

    def _file(self, depth: int, size: int, format_: str, note: str, items: Any) -> nodes.Node:
        flat = self._items(items, 2)
        segments: list[tuple[nodes.Path, nodes.Tensor | nodes.Value]] = []
        for path, value in zip(flat[::2], flat[1::2], strict=True):
            data = self._node(value, depth)
            if not isinstance(data, nodes.Tensor) and not (isinstance(data, nodes.Value) and type(value) is bytes):
                raise CorruptError("a file's segment is neither a tensor nor bytes")
            segments.append((tuple(_check(part, str) for part in _check(path, list)), data))
        return nodes.File(_sizes([size])[0], _check(format_, str), segments, _check(note, str))

    def _directory(self, depth: int, items: Any) -> nodes.Node:
        flat = self._items(items, 2)
        entries: dict[str, nodes.File | nodes.Directory] = {}
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            entry = self._node(value, depth)
            if not isinstance(entry, nodes.File | nodes.Directory):
                raise CorruptError("a directory's entry is neither a file nor a directory")
            if _check(name, str) in entries:
                raise CorruptError(f"a directory of a tree has two entries {name!r}")
            entries[name] = entry
        return nodes.Directory(entries)

    def _items(self, items: Any, per_item: int) -> list[Any]:
        if type(items) is bytes:
            found: list[Any] = []
            size = self._hash_size
            if len(items) % size:
                raise CorruptError("a tree's list of segments is truncated")
            for start in range(0, len(items), size):
                segment = loads(self._object(items[start : start + size], pack.TREE), "a segment of a tree")
                found.extend(_check(segment, list))
            items = found
        if len(_check(items, list)) % per_item:
            raise CorruptError("a tree holds a key without a value")
        return list(items)

    def _id(self, value: Any) -> bytes:
        if type(value) is not bytes or len(value) != self._hash_size:
            raise CorruptError("a tree holds an id of the wrong size")
        return value


def _check(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise CorruptError(f"a tree holds {type(value).__name__} where {kind.__name__} belongs")
    return value


def _sizes(values: list[int]) -> tuple[int, ...]:
    if len(_check(values, list)) > limits.MAX_TENSOR_DIMS:
        raise CorruptError("a tree holds a tensor of too many dimensions")
    for value in values:
        if type(value) is not int or not 0 <= value < 1 << 62:
            raise CorruptError("a tree holds a size that is not one")
    return tuple(values)


_PARSERS: dict[int, Callable[..., nodes.Node]] = {
    FLOAT: TreeReader._float,
    TENSOR: TreeReader._tensor,
    VIEW: TreeReader._view,
    SHARED: TreeReader._shared,
    COMPOUND: TreeReader._compound,
    MAP: TreeReader._map,
    SEQUENCE: TreeReader._sequence,
    FILE: TreeReader._file,
    DIRECTORY: TreeReader._directory,
}
