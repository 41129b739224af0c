"""Modules and optimizers that a state is loaded into: what may be written directly, and what does not fit them."""

from __future__ import annotations

from typing import Any

import torch

from castore.objects import nodes
from castore.objects.nodes import Map, Node, Path, Sequence, key_text
from castore.state.live.elements import NAME_OF_TORCH

_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_METHODS = ("state_dict", "load_state_dict", "_save_to_state_dict", "_load_from_state_dict", "set_extra_state")


def is_plain(module: torch.nn.Module) -> bool:
    """Whether loading a state dict comes to writing its tensors: no module in it has a way of its own.

    What comes with torch is taken as plain: it differs only in how it reads state dicts of older versions of itself.
    """
    for one in module.modules():
        if any(getattr(one, hooks, None) for hooks in _HOOKS):
            return False
        kind = type(one)
        own = [name for name in _METHODS if getattr(kind, name) is not getattr(torch.nn.Module, name)]
        if own and not kind.__module__.startswith("torch.nn.modules."):
            return False
    return True


def same_dtypes(node: Map, ours: dict[str, Any]) -> bool:
    """Whether every tensor of a module's state dict has the dtype that the commit's has, and is one at all."""
    for key, item in node.items:
        entry = item.view if isinstance(item, nodes.Shared) else item
        if isinstance(key, nodes.Compound) and key.kind == "attribute":
            continue
        current = ours.get(str(key.value)) if isinstance(key, nodes.Value) else None
        if not isinstance(current, torch.Tensor) or not isinstance(entry, nodes.Tensor | nodes.View):
            return False
        if NAME_OF_TORCH.get(current.dtype) != entry.dtype or current.layout is not torch.strided:
            return False
    return True


def compare_optimizer(node: Node, optimizer: torch.optim.Optimizer) -> tuple[list[tuple[Path, str]], Node]:
    """What of an optimizer's state does not fit its parameters: (where, why), and the node without it.

    `load_state_dict` compares the numbers of parameters; shapes it takes on trust, and the next step fails.
    """
    items = {key_text(key): item for key, item in node.items} if isinstance(node, Map) else {}
    groups, kept = items.get("param_groups"), items.get("state")
    if not isinstance(node, Map) or not isinstance(groups, Sequence) or not isinstance(kept, Map):
        return [((), "the commit has no state of an optimizer")], nodes.Value(None)
    theirs = [_params(group) for group in groups.items]
    ours = [group["params"] for group in optimizer.param_groups]
    sizes, own_sizes = [len(one) for one in theirs], [len(one) for one in ours]
    if sizes != own_sizes:
        text = f"the commit has groups of {sizes} parameters, the state {own_sizes}"
        return [(("param_groups",), text)], nodes.Value(None)
    shapes = {
        name: tuple(param.shape)
        for names, params in zip(theirs, ours, strict=True)
        for name, param in zip(names, params, strict=True)
    }
    problems: list[tuple[Path, str]] = []
    fitting = []
    for key, slot in kept.items:
        name = key_text(key)
        unfit = _unfit(slot, shapes.get(name, ()))
        problems += [(("state", name, what), text) for what, text in unfit]
        if not unfit:
            fitting.append((key, slot))
    if not problems:
        return [], node
    left = [(key, item if key_text(key) != "state" else Map(kept.kind, fitting)) for key, item in node.items]
    return problems, Map(node.kind, left)


def _params(group: Node) -> list[str]:
    items = {key_text(key): item for key, item in group.items} if isinstance(group, Map) else {}
    numbers = items.get("params")
    return [key_text(number) for number in numbers.items] if isinstance(numbers, Sequence) else []


def _unfit(slot: Node, shape: tuple[int, ...]) -> list[tuple[str, str]]:
    """Which of a parameter's tensors have another shape. Some optimizers keep fewer dimensions, or one number."""
    found = []
    for key, item in slot.items if isinstance(slot, Map) else []:
        if isinstance(item, nodes.Tensor) and len(item.shape) == len(shape) and item.shape != shape:
            found.append((key_text(key), f"the commit has {list(item.shape)}, its parameter {list(shape)}"))
    return found
