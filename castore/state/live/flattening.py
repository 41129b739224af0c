"""Live Python values -> nodes. Everything that cannot be kept is refused here, before a byte is written."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from castore.errors import StateError
from castore.limits import MAX_TREE_NESTING
from castore.objects import nodes
from castore.objects.nodes import Compound, Map, Node, Sequence, Value, key_text
from castore.quiet import no_collection
from castore.state.live import leaves, sparse
from castore.state.live.aliases import Extent, extent, share
from castore.state.live.elements import NAME_OF_TORCH, stored_dtype
from castore.state.live.refusals import refusal, shown, tensor_advice
from castore.state.live.sources import ArraySource, BytesSource, TensorSource, TorchSource

LONG_BYTES = 1 << 16  # a longer bytes or str is cut into chunks rather than kept in the tree
_MAX_KEY_BITS = 8192  # Python refuses to print much larger ints, and paths show their keys
FACTORIES: dict[type | None, str | None] = {None: None} | {k: k.__name__ for k in (list, dict, int, float, set, str)}


@dataclass(frozen=True, slots=True)
class Flat:
    """root: the state's node, tensors without chunks. sources: the bytes of each, as `nodes.tensors` orders them."""

    root: Node
    sources: list[TensorSource]


def flatten(state: Any, meet: Callable[[TensorSource], None] = lambda _source: None) -> Flat:
    """The nodes of a state, and where the bytes of its tensors are.

    Nothing is copied: the sources read the state's own memory, which must not change until they have been read.
    meet: is told of each tensor as it is met; if memory is shared there may be another source for it in the end.
    Raises StateError that names the path of the first value without a safe encoding, of a cycle, or of nesting
    beyond `limits.MAX_TREE_NESTING`.
    """
    walk = _Walk(meet)
    with no_collection():
        return Flat(*share(walk.node(state), walk.sources, walk.met))


class _Walk:
    """One pass over a state. `_path` is where it is; `_open` holds the containers it is in, by identity."""

    def __init__(self, meet: Callable[[TensorSource], None]) -> None:
        self._meet = meet
        self.sources: list[TensorSource] = []
        self.met: dict[torch.device, list[Extent]] = {}
        self._path: list[str] = []
        self._open: set[int] = set()
        self._encoders: dict[type, Callable[[Any], Node]] = {
            str: self._str,
            bytes: self._bytes,
            bytearray: self._bytes,
            dict: self._map,
            OrderedDict: self._map,
            defaultdict: self._map,
            Counter: self._map,
            list: self._sequence,
            tuple: self._sequence,
            torch.Size: self._sequence,
            deque: self._deque,
            set: self._set,
            frozenset: self._set,
            torch.Tensor: self._tensor,
            torch.nn.Parameter: self._tensor,
            np.ndarray: self._array,
        }

    def node(self, value: Any) -> Node:
        kind = type(value)
        if kind is float or kind is int or kind is bool or value is None:
            return Value(value)
        encode = self._encoders.get(kind)
        if encode is not None:
            return encode(value)
        leaf = leaves.BY_TYPE.get(kind)
        if leaf is None:
            raise self._refusal(value)
        return self._compound(leaf, value)

    # Where we are

    def _here(self) -> str:
        return shown(tuple(self._path))

    def _refusal(self, value: Any) -> StateError:
        return refusal(tuple(self._path), value)

    def _enter(self, value: Any) -> None:
        if id(value) in self._open:
            raise StateError(f"{self._here()}: a {type(value).__name__} contains itself: break the cycle")
        if len(self._open) >= MAX_TREE_NESTING:
            raise StateError(f"{shown(tuple(self._path[:8]))}...: nested more than {MAX_TREE_NESTING} deep: flatten it")
        self._open.add(id(value))

    def _leave(self, value: Any) -> None:
        self._open.discard(id(value))

    def _at(self, name: str, value: Any) -> Node:
        self._path.append(name)
        node = self.node(value)
        self._path.pop()
        return node

    # Containers

    def _map(self, value: dict[Any, Any]) -> Map:
        self._enter(value)
        items: list[tuple[Node, Node]] = []
        for key, item in value.items():
            key_node = Value(key) if type(key) is str and key.isascii() else self._key(key)
            items.append((key_node, self._at(key_text(key_node), item)))
        for name, attribute in self._attributes(value).items():
            key_node = Compound("attribute", [Value(name)])
            items.append((key_node, self._at(key_text(key_node), attribute)))
        self._leave(value)
        return Map(type(value).__name__, items)

    def _attributes(self, value: dict[Any, Any]) -> dict[str, Any]:
        """What an instance carries beside its items: a factory, or `_metadata` on the state dict of a module."""
        if isinstance(value, defaultdict):
            if value.default_factory not in FACTORIES:
                raise StateError(f"{self._here()}: a defaultdict of {value.default_factory!r}: convert it to a dict")
            return {"default_factory": FACTORIES[value.default_factory]}
        return getattr(value, "__dict__", {})

    def _sequence(self, value: Any) -> Sequence:
        self._enter(value)
        items = [self._at(str(index), item) for index, item in enumerate(value)]
        self._leave(value)
        return Sequence("torch.Size" if type(value) is torch.Size else type(value).__name__, items)

    def _deque(self, value: deque[Any]) -> Node:
        return self._sequence(value) if value.maxlen is None else self._compound(leaves.BY_KIND["deque"], value)

    def _set(self, value: set[Any] | frozenset[Any]) -> Sequence:
        return Sequence(type(value).__name__, self._members(value))

    def _members(self, value: set[Any] | frozenset[Any]) -> list[Node]:
        """In an order of their own: Python's differs by process, and the same state must be the same tree."""
        return sorted((self._key(item) for item in value), key=repr)

    # Keys

    def _key(self, key: Any) -> Node:
        """A dict's key or a set's member: plain and hashable. It never holds a tensor, so it has no path below it."""
        kind = type(key)
        if key is None or kind is bool or kind is float or kind is bytes:
            return Value(key)
        if kind is int:
            if key.bit_length() > _MAX_KEY_BITS:
                raise StateError(f"{self._here()}: a key of {key.bit_length()} bits: use a shorter one")
            return Value(key)
        if kind is str and _encodable(key):
            return Value(key)
        leaf = leaves.BY_TYPE.get(kind)
        if kind is not tuple and kind is not frozenset and (leaf is None or not leaf.key):
            name = f"{kind.__module__}.{kind.__qualname__}"
            raise StateError(f"{self._here()}: cannot store a key of type {name}: use str, int or tuples")
        self._enter(key)  # keys cannot be cyclic, but they can be nested too deep
        if kind is tuple:
            made = Compound("tuple", [self._key(item) for item in key])
        elif kind is frozenset:
            made = Compound("frozenset", self._members(key))
        else:
            assert leaf is not None
            made = Compound(leaf.kind, [self._key(part) for part in leaf.parts(key)])
        self._leave(key)
        return made

    # Leaves

    def _compound(self, leaf: leaves.Leaf, value: Any) -> Compound:
        self._enter(value)
        try:
            parts = leaf.parts(value)
        except StateError as error:
            raise StateError(f"{self._here()}: {error}") from None
        made = Compound(leaf.kind, [self._at(str(index), part) for index, part in enumerate(parts)])
        self._leave(value)
        return made

    def _str(self, value: str) -> Node:
        if len(value) < LONG_BYTES and _encodable(value):
            return Value(value)
        return self._compound(leaves.BY_KIND["str"], value)

    def _bytes(self, value: bytes | bytearray) -> Node:
        if len(value) >= LONG_BYTES:
            entry = nodes.Tensor(type(value).__name__, "bytes", (len(value),))
            self.sources.append(BytesSource(tuple(self._path), entry, value))
            return entry
        return Value(value) if type(value) is bytes else self._compound(leaves.BY_KIND["bytearray"], value)

    def _array(self, value: np.ndarray[Any, Any]) -> nodes.Tensor:
        try:
            dtype, spec = stored_dtype(value.dtype)
        except StateError as error:
            raise StateError(f"{self._here()}: the array {error}") from None
        shape = (*value.shape, value.dtype.itemsize) if dtype == "bytes" else value.shape
        entry = nodes.Tensor("array", dtype, shape, numpy_dtype=spec)
        self.sources.append(ArraySource(tuple(self._path), entry, value))
        return entry

    def _tensor(self, value: torch.Tensor) -> Node:
        kind = "parameter" if type(value) is torch.nn.Parameter else "tensor"
        if kind == "tensor" and getattr(value, "_is_buffer", False):
            kind = "buffer" if getattr(value, "persistent", True) else "transient_buffer"
        if value.layout is not torch.strided:
            return self._sparse(value, kind)
        dtype, device = NAME_OF_TORCH.get(value.dtype), value.device
        if dtype is None or value.is_nested or device.type == "meta":
            raise self._tensor_refusal(value)
        entry = nodes.Tensor(kind, dtype, tuple(value.shape), value.requires_grad)
        if value.numel() and not value.is_conj() and not value.is_neg():
            self.met.setdefault(device, []).append(extent(value, len(self.sources)))
        source = TorchSource(tuple(self._path), entry, value)
        self.sources.append(source)
        self._meet(source)
        return entry

    def _sparse(self, value: torch.Tensor, kind: str) -> Compound:
        if value.layout not in sparse.NAMES or value.is_nested or value.device.type == "meta":
            raise self._tensor_refusal(value)
        self._enter(value)
        parts = (*sparse.parts(value), kind, value.requires_grad)
        made = Compound(sparse.NAMES[value.layout], [self._at(str(index), part) for index, part in enumerate(parts)])
        self._leave(value)
        return made

    def _tensor_refusal(self, value: torch.Tensor) -> StateError:
        return StateError(f"{self._here()}: cannot store this tensor: {tensor_advice(value)}")


def _encodable(text: str) -> bool:
    """Whether a str is Unicode; one with lone surrogates is not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
