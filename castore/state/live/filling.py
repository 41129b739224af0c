"""Nodes -> a state that exists: tensors are written where they lie, plain values replaced, objects given theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from castore.errors import StateError
from castore.objects import nodes
from castore.objects.nodes import Compound, Map, Node, Path, Sequence, Shared, View, key_text
from castore.quiet import no_collection
from castore.state.live.allocation import allocate, finished, look, writable
from castore.state.live.building import Builder, Sink, made_key
from castore.state.live.elements import numpy_dtype, swapped, torch_dtype
from castore.state.live.modules import compare_optimizer, is_plain, same_dtypes
from castore.state.live.refusals import shown
from castore.state.live.sources import array_bytes, tensor_bytes
from castore.state.live.targets import (
    Finish,
    called,
    copied,
    holds_target,
    holds_tensor,
    is_target,
    loads,
    refill,
    replace_items,
    update,
    writable_directly,
)

_SHOWN = 10


def fill_in_place(root: Node, state: Any, strict: bool = True) -> InPlace:
    """Prepare to load `root` into `state`: a dict, list, tensor, array or an object with load_state_dict.

    Tensors must agree in path, shape and dtype; a dict or list without tensors is replaced as a whole; an object with
    `state_dict` and `load_state_dict` (module, optimizer, scheduler) is given its part when all is read.
    Raises StateError that lists what does not fit, or without `strict` leaves it as it is; see `InPlace.left`.
    Nothing is written until a sink is.
    """
    return InPlace(root, state, strict)


class InPlace:
    """`sinks()` are filled by the caller, then `finish()` is called once.

    left: what does not fit and is left as it is, one line each. After `finish` also what an object refused.
    """

    def __init__(self, root: Node, state: Any, strict: bool = True) -> None:
        self._problems: list[str] = []
        self._strict = strict
        self._sinks: list[Sink] = []
        self._bases: dict[int, torch.Tensor] = {}
        self._state = state
        with torch.no_grad(), no_collection():
            self._finish = self._plan(root, state, ())
        if type(state) in (tuple, frozenset) or not is_target(state):
            raise StateError(f"a {type(state).__name__} cannot be loaded into: give a dict, a list or tensors")
        if self._problems and strict:
            shown_problems = "; ".join(self._problems[:_SHOWN])
            more = len(self._problems) - _SHOWN
            raise StateError(f"the state does not fit: {shown_problems}" + (f"; and {more} more" if more > 0 else ""))

    @property
    def left(self) -> list[str]:
        return list(self._problems)

    def sinks(self) -> list[Sink]:
        """(entry, the bytes to write) of every tensor: its own memory, or a temporary where not contiguous on the CPU.

        Not in the order of `nodes.tensors`: match them by the identity of the entry.
        """
        return list(self._sinks)

    def finish(self) -> None:
        """Copy temporaries to where they belong, replace plain values, call load_state_dict."""
        with torch.no_grad():
            self._finish()

    def _plan(self, node: Node, current: Any, path: Path) -> Finish:
        if isinstance(current, torch.Tensor) and isinstance(node, nodes.Tensor | Shared | View):
            return self._tensor(node, current, path)
        if isinstance(current, np.ndarray) and isinstance(node, nodes.Tensor):
            return self._array(node, current, path)
        if loads(current):
            return self._object(node, current, path)
        if isinstance(node, Map) and isinstance(current, dict) and (holds_target(current) or holds_tensor(node)):
            return self._dict(node, current, path)
        if (
            isinstance(node, Sequence)
            and isinstance(current, list | tuple)
            and (holds_target(current) or holds_tensor(node))
        ):
            return self._list(node, current, path)
        if holds_target(current):
            text = f"the commit has {called(node)} where the state has a {type(current).__name__}"
            return self._problem(path, text, current)
        return self._replacement(node, current)

    def _problem(self, path: Path, text: str, current: Any) -> Finish:
        """What does not fit stays as it is."""
        self._problems.append(f"{shown(path)}: {text}")
        return lambda: current

    # Tensors and arrays

    def _tensor(self, node: nodes.Tensor | Shared | View, current: torch.Tensor, path: Path) -> Finish:
        entry = node.view if isinstance(node, Shared) else node
        if tuple(current.shape) != entry.shape or current.dtype != torch_dtype(entry.dtype):
            theirs, ours = f"{entry.dtype}{list(entry.shape)}", f"{str(current.dtype)[6:]}{list(current.shape)}"
            if isinstance(node, Shared):
                self._base(node, None, path)
            return self._problem(path, f"the commit has {theirs}, the state {ours}", current)
        if current.layout is not torch.strided or any(
            step == 0 and size > 1 for size, step in zip(current.shape, current.stride(), strict=True)
        ):
            return self._problem(
                path, "the state's tensor is sparse or overlaps itself: give it memory of its own", current
            )
        if isinstance(node, nodes.Tensor):
            if writable_directly(current):
                self._sinks.append((node, tensor_bytes(current)))
                return lambda: current
            memory = allocate(node, path)
            self._sinks.append((node, writable(memory)))
            return lambda: copied(current, memory)
        if isinstance(node, Shared):
            self._base(node, current, path)
        return self._from_base(node.view if isinstance(node, Shared) else node, current, path)

    def _base(self, node: Shared, current: torch.Tensor | None, path: Path) -> None:
        """Where shared memory is read to: the first tensor's own memory where that is exactly it, else a temporary."""
        own = current is not None and writable_directly(current) and node.view.offset == 0
        if own and current is not None and node.data.dtype == node.view.dtype and node.data.shape == (current.numel(),):
            contiguous = torch.empty(node.view.shape, device="meta").stride() == node.view.stride
            if contiguous:
                self._bases[node.number] = current.detach().reshape(-1)
                self._sinks.append((node.data, tensor_bytes(current)))
                return
        memory = allocate(node.data, path)
        assert isinstance(memory, torch.Tensor)
        self._bases[node.number] = memory
        self._sinks.append((node.data, writable(memory)))

    def _from_base(self, view: View, current: torch.Tensor, path: Path) -> Finish:
        if view.base not in self._bases:
            return self._problem(path, f"looks into shared memory {view.base}, which the tree lacks", current)
        source = look(view, self._bases[view.base], path)
        if source.data_ptr() == current.data_ptr() and source.stride() == current.stride():
            return lambda: current
        return lambda: copied(current, source)

    def _array(self, entry: nodes.Tensor, current: np.ndarray[Any, Any], path: Path) -> Finish:
        if entry.kind != "array":
            return self._problem(path, f"the commit has {called(entry)} where the state has a NumPy array", current)
        dtype = numpy_dtype(entry.dtype, entry.numpy_dtype)
        shape = entry.shape[:-1] if entry.dtype == "bytes" else entry.shape
        if current.dtype != dtype or current.shape != shape:
            theirs, ours = f"{dtype}{list(shape)}", f"{current.dtype}{list(current.shape)}"
            return self._problem(path, f"the commit has {theirs}, the state {ours}", current)
        if not current.flags.writeable:
            return self._problem(path, "the state's array is read-only: give a writable one", current)
        if current.flags.c_contiguous and not swapped(dtype):
            self._sinks.append((entry, array_bytes(current)))
            return lambda: current
        memory = allocate(entry, path)
        self._sinks.append((entry, writable(memory)))
        return lambda: copied(current, finished(entry, memory, None))

    # Containers

    def _dict(self, node: Map, current: dict[Any, Any], path: Path) -> Finish:
        items: list[tuple[Any, Finish]] = []
        attributes: list[tuple[Compound, Finish]] = []
        found = set()
        for key, item in node.items:
            here = (*path, key_text(key))
            if isinstance(key, Compound) and key.kind == "attribute":
                if hasattr(current, "__dict__"):
                    attributes.append((key, self._replacement(item, None)))
                continue
            name = made_key(key)
            found.add(name)
            if name not in current:
                self._problem(here, "only the commit has it", None)
                self._keep_shared(item, here)
                continue
            items.append((name, self._plan(item, current[name], here)))
        for name in current:
            if name not in found:
                self._problem((*path, str(name)), "only the state has it", None)
        return lambda: update(current, items, attributes)

    def _list(self, node: Sequence, current: list[Any] | tuple[Any, ...], path: Path) -> Finish:
        if len(node.items) != len(current):
            return self._problem(path, f"the commit has {len(node.items)} items, the state {len(current)}", current)
        items = [
            self._plan(item, value, (*path, str(index)))
            for index, (item, value) in enumerate(zip(node.items, current, strict=True))
        ]
        return lambda: replace_items(current, items)

    # Objects with load_state_dict

    def _object(self, node: Node, current: Any, path: Path) -> Finish:
        before = len(self._problems)
        if isinstance(current, torch.nn.Module):
            ours = current.state_dict()
            unfit = self._compare_module(node, ours, path)
            if (
                len(self._problems) == before
                and isinstance(node, Map)
                and is_plain(current)
                and same_dtypes(node, ours)
            ):
                fill = self._dict(node, ours, path)  # its tensors are the module's own
                return lambda: (fill(), current)[1]
            node = self._without(node, unfit, path)
        elif isinstance(current, torch.optim.Optimizer):
            problems, node = compare_optimizer(node, current)
            self._problems += [f"{shown((*path, *where))}: {text}" for where, text in problems]
        if not isinstance(node, Map) and len(self._problems) > before:
            return lambda: current
        return self._given(self._replacement(node, None), current, path)

    def _given(self, build: Finish, current: Any, path: Path) -> Finish:
        def finish() -> Any:
            try:
                if isinstance(current, torch.nn.Module) and not self._strict:
                    current.load_state_dict(build(), strict=False)
                else:
                    current.load_state_dict(build())
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                refused = f"{shown(path)}: {type(current).__name__} refused its state: {error}"
                if self._strict:
                    raise StateError(refused) from error
                self._problems.append(refused)
            return current

        return finish

    def _compare_module(self, node: Node, ours: dict[str, Any], path: Path) -> set[str]:
        """What load_state_dict(strict=True) would refuse, found before anything is written; the names it is of."""
        if not isinstance(node, Map):
            self._problem(path, f"the commit has {called(node)} where the state has a module", None)
            return set()
        theirs = {str(key.value): item for key, item in node.items if isinstance(key, nodes.Value)}
        unfit = {name for name in theirs if name not in ours}
        for name in [*(name for name in theirs if name in unfit), *(name for name in ours if name not in theirs)]:
            text = "only the commit has it" if name in theirs else "only the state has it"
            self._problem((*path, name), text, None)
        for name, item in theirs.items():
            entry = item.view if isinstance(item, Shared) else item
            current = ours.get(name)
            if (
                isinstance(entry, nodes.Tensor | View)
                and isinstance(current, torch.Tensor)
                and tuple(current.shape) != entry.shape
            ):
                text = f"the commit has {list(entry.shape)}, the state {list(current.shape)}"
                self._problem((*path, name), text, None)
                unfit.add(name)
        return unfit

    def _without(self, node: Node, names: set[str], path: Path) -> Node:
        """A map without some of its items."""
        if not names or not isinstance(node, Map):
            return node
        kept = []
        for key, item in node.items:
            if isinstance(key, nodes.Value) and str(key.value) in names:
                self._keep_shared(item, (*path, str(key.value)))
            else:
                kept.append((key, item))
        return Map(node.kind, kept)

    def _keep_shared(self, item: Node, path: Path) -> None:
        """Memory that an item left out shares with others is read all the same."""
        if isinstance(item, Shared):
            self._base(item, None, path)

    # Values made anew

    def _replacement(self, node: Node, current: Any) -> Finish:
        """Build `node` from scratch; a dict or list that is there keeps its identity."""
        builder = Builder(node, bases=self._bases)
        self._sinks += builder.sinks()
        is_dict = type(current) is dict and isinstance(node, Map) and node.kind == "dict"
        is_list = type(current) is list and isinstance(node, Sequence) and node.kind == "list"
        return (lambda: refill(current, builder.build())) if is_dict or is_list else builder.build
