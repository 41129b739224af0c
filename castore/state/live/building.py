"""Nodes -> live Python values: memory is handed out first, filled by the caller, and becomes the state last."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeGuard

import torch

from castore.errors import CorruptError
from castore.limits import MAX_TREE_NESTING
from castore.objects import nodes
from castore.objects.nodes import Compound, Map, Node, Path, Sequence, Shared, Value, View, key_text
from castore.quiet import no_collection
from castore.state.live import leaves, sparse
from castore.state.live.allocation import Memory, allocate, dressed, finished, look, writable
from castore.state.live.flattening import FACTORIES
from castore.state.live.refusals import shown

Sink = tuple[nodes.Tensor, memoryview]

_MAPS: dict[str, type[dict[Any, Any]]] = {
    "dict": dict,
    "OrderedDict": OrderedDict,
    "defaultdict": defaultdict,
    "Counter": Counter,
}
_SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "torch.Size": torch.Size,
}
_HASHED = ("set", "frozenset")
_FACTORY_BY_NAME = {name: factory for factory, name in FACTORIES.items()}
_MANY = 1000  # keys, from which on it matters whether they collide
_MOST_OF_ONE_HASH = 32  # numbers have hashes of their own below 2**61
_DAMAGE = (TypeError, ValueError, KeyError, IndexError, OverflowError, RuntimeError, AttributeError)


class Builder:
    """Makes the state of a tree.

    `sinks()` once, fill every sink with the bytes of its tensor, then `build()` once.
    device: where torch tensors go, one by one; None leaves them on the CPU. What holds the sinks holds their memory.
    bases: memory by the number of its `Shared`, for a part of a tree whose views look into another part.
    Raises CorruptError for anything that no `flatten` would have written: only known kinds are ever constructed.
    """

    def __init__(
        self, root: Node, device: torch.device | str | None = None, bases: dict[int, torch.Tensor] | None = None
    ) -> None:
        self._root = root
        self._device = None if device is None else torch.device(device)
        self._bases = {} if bases is None else bases
        self._memory: list[Memory | None] | None = None
        self._taken = 0
        self._made: dict[tuple[Any, ...], torch.Tensor] = {}

    def sinks(self) -> list[Sink]:
        """(entry, its uninitialised bytes) of every tensor, in the order of `nodes.tensors(root)`."""
        with no_collection():
            return self._allocate()

    def _allocate(self) -> list[Sink]:
        sinks: list[Sink] = []
        self._memory = []
        for path, node in entries(self._root):
            entry = node.data if isinstance(node, Shared) else node
            memory = allocate(entry, path)
            if isinstance(node, Shared):
                self._add_base(node.number, memory, path)
            self._memory.append(memory)
            sinks.append((entry, writable(memory)))
        return sinks

    def build(self) -> Any:
        """The state, once the sinks are filled."""
        if self._memory is None:
            self.sinks()
        if self._device is not None:
            self._bases.update((number, base.to(self._device)) for number, base in list(self._bases.items()))
        with no_collection():
            return self._value(self._root, ())

    def _add_base(self, number: int, memory: Memory, path: Path) -> None:
        if not isinstance(memory, torch.Tensor) or memory.dim() != 1 or number in self._bases:
            raise CorruptError(f"{shown(path)}: shared memory that is not one span of its own: the tree is damaged")
        self._bases[number] = memory

    def _take(self) -> Memory:
        """The next memory, let go of here so that what was moved to a device is freed."""
        assert self._memory is not None
        memory = self._memory[self._taken]
        assert memory is not None, "build() is called once"
        self._memory[self._taken] = None
        self._taken += 1
        return memory

    def _value(self, node: Node, path: Path) -> Any:
        if isinstance(node, Value):
            return node.value
        try:
            if isinstance(node, nodes.Tensor):
                return finished(node, self._take(), self._device)
            if isinstance(node, Map):
                return self._map(node, path)
            if isinstance(node, Sequence):
                return self._sequence(node, path)
            if isinstance(node, Compound):
                parts = [self._value(part, (*path, str(index))) for index, part in enumerate(node.parts)]
                return compound(node.kind, parts, path)
            if isinstance(node, Shared):
                self._take()
                return self._look(node.view, path)
            if isinstance(node, View):
                return self._look(node, path)
        except _DAMAGE as error:
            raise CorruptError(f"{shown(path)}: malformed {getattr(node, 'kind', 'entry')}: {error}") from error
        raise CorruptError(
            f"{shown(path)}: a {type(node).__name__.lower()} is not part of a state: check it out instead"
        )

    def _look(self, view: View, path: Path) -> torch.Tensor:
        """One object for all views that are equal: a tied parameter comes back as the one parameter it was."""
        key = (view.base, view.kind, view.dtype, view.shape, view.stride, view.offset, view.requires_grad)
        if key not in self._made:
            base = self._bases.get(view.base)
            if base is None:
                raise CorruptError(
                    f"{shown(path)}: looks into shared memory {view.base}, which the tree lacks: load its owner too"
                )
            self._made[key] = dressed(look(view, base, path), view.kind, view.requires_grad)
        return self._made[key]

    def _map(self, node: Map, path: Path) -> Any:
        if node.kind not in _MAPS:
            raise _unknown(node.kind, path)
        made: Any = _MAPS[node.kind]()
        keys = made_keys([key for key, _ in node.items if not _is_attribute(key)])
        left = iter(keys)
        for key, item in node.items:
            value = self._value(item, (*path, key_text(key)))
            if _is_attribute(key):
                set_attribute(made, key, value)
            else:
                made[next(left)] = value
        if len(made) != len(keys):
            raise ValueError("a key occurs twice")
        return made

    def _sequence(self, node: Sequence, path: Path) -> Any:
        if node.kind not in _SEQUENCES:
            raise _unknown(node.kind, path)
        if node.kind in _HASHED:
            items = made_keys(node.items)
        else:
            items = [self._value(item, (*path, str(index))) for index, item in enumerate(node.items)]
        return _SEQUENCES[node.kind](items)


def _unknown(kind: str, path: Path) -> CorruptError:
    return CorruptError(f"{shown(path)}: unknown kind {kind!r}: a newer castore wrote it, or the tree is damaged")


def compound(kind: str, parts: list[Any], path: Path) -> Any:
    """The value of a compound of built parts. Raises CorruptError for an unknown kind, or what its constructor does."""
    if kind in sparse.LAYOUTS:
        *own, dress, requires_grad = parts
        return dressed(sparse.make(kind, own), dress, bool(requires_grad))
    leaf = leaves.BY_KIND.get(kind)
    if leaf is None:
        raise _unknown(kind, path)
    return leaf.make(*parts)


def made_keys(keys: Collection[Node]) -> list[Any]:
    """Dict keys or set members of nodes. Raises ValueError where somebody chose them to have one hash: a dict of n of
    them takes n * n steps."""
    made = [made_key(key) for key in keys]
    if len(made) > _MANY and max(Counter(map(hash, made)).values()) > _MOST_OF_ONE_HASH:
        raise ValueError("keys that collide")
    return made


def _is_attribute(key: Node) -> TypeGuard[Compound]:
    return isinstance(key, Compound) and key.kind == "attribute"


def made_key(key: Node) -> Any:
    """The dict key or set member of a node."""
    if isinstance(key, Value):
        return key.value
    if not isinstance(key, Compound):
        raise TypeError("a key that is a container")
    parts = [made_key(part) for part in key.parts]
    if key.kind == "tuple":
        return tuple(parts)
    if key.kind == "frozenset":
        return frozenset(parts)
    leaf = leaves.BY_KIND.get(key.kind)
    if leaf is None or not leaf.key:
        raise TypeError(f"a key of kind {key.kind!r}")
    return leaf.make(*parts)


def set_attribute(made: Any, key: Compound, value: Any) -> None:
    """What a dict carries beside its items: a defaultdict's factory, or an instance attribute such as `_metadata`."""
    (name,) = key.parts
    if not isinstance(name, Value) or type(name.value) is not str:
        raise TypeError("an attribute without a name")
    if isinstance(made, defaultdict):
        if name.value != "default_factory":
            raise ValueError(f"a defaultdict has no attribute {name.value!r}")
        made.default_factory = _FACTORY_BY_NAME[value]
    else:
        vars(made)[name.value] = value


def entries(node: Node, path: Path = ()) -> Iterator[tuple[Path, nodes.Tensor | Shared]]:
    """Every Tensor and Shared below `node`, in the order of `nodes.tensors`. CorruptError where too deep."""
    if isinstance(node, nodes.Tensor | Shared):
        yield path, node
        return
    if len(path) > MAX_TREE_NESTING:
        raise CorruptError(f"{shown(path[:8])}...: nested more than {MAX_TREE_NESTING} deep: the tree is damaged")
    if isinstance(node, Map):
        for key, item in node.items:
            if not isinstance(item, Value):
                yield from entries(item, (*path, key_text(key)))
    elif isinstance(node, Sequence | Compound):
        for index, item in enumerate(node.items if isinstance(node, Sequence) else node.parts):
            yield from entries(item, (*path, str(index)))
