"""What a state can be loaded into, and how values get to where they belong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from castore.objects import nodes
from castore.objects.nodes import Compound, Map, Node, Sequence, Shared, View
from castore.state.live.building import set_attribute

Finish = Callable[[], Any]  # gives the value that belongs at a place, once all sinks are filled


def writable_directly(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()


def copied(current: Any, source: Any) -> Any:
    if isinstance(current, torch.Tensor):
        current.detach().copy_(source)
    else:
        np.copyto(current, source)
    return current


def loads(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def is_target(value: Any) -> bool:
    return isinstance(value, torch.Tensor | np.ndarray | dict | list) or loads(value)


def holds_target(value: Any) -> bool:
    """Whether there is anything in `value` to be loaded into rather than replaced."""
    if isinstance(value, dict):
        return any(holds_target(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(holds_target(item) for item in value)
    return isinstance(value, torch.Tensor | np.ndarray) or loads(value)


def holds_tensor(node: Node) -> bool:
    if isinstance(node, Map):
        return any(holds_tensor(item) for _, item in node.items)
    if isinstance(node, Sequence | Compound):
        return any(holds_tensor(item) for item in (node.items if isinstance(node, Sequence) else node.parts))
    return isinstance(node, nodes.Tensor | Shared | View)


def called(node: Node) -> str:
    if isinstance(node, nodes.Value):
        return f"a {type(node.value).__name__}"
    return f"a {getattr(node, 'kind', 'tensor')}"


def update(
    current: dict[Any, Any], items: list[tuple[Any, Finish]], attributes: list[tuple[Compound, Finish]]
) -> dict[Any, Any]:
    for name, finish in items:
        value = finish()
        if value is not current[name]:
            current[name] = value
    for key, finish in attributes:
        set_attribute(current, key, finish())
    return current


def refill(current: Any, value: Any) -> Any:
    """Give a dict or list new content, so that whoever else holds it sees that."""
    current.clear()
    (current.update if isinstance(current, dict) else current.extend)(value)
    return current


def replace_items(current: list[Any] | tuple[Any, ...], items: list[Finish]) -> Any:
    values = [finish() for finish in items]
    if isinstance(current, list):
        current[:] = values
        return current
    # A tuple stays the same object where all its items do.
    return current if all(a is b for a, b in zip(current, values, strict=True)) else tuple(values)
