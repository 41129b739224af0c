"""Which tensors of a state can be predicted from which others, as its structure tells: what an optimizer keeps of a
parameter (`state` and `param_groups`, as torch.optim and its many followers write them), and weights in low precision
beside their masters.

Nothing is asked of the user, and nothing is taken on trust: a relation that does not hold costs the attempt, no more.
Parameters are matched to an optimizer's numbers by their order and shapes, as torch itself does.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from castore.codecs.predicted import ADAPTIVE_STEP, MOMENTUM_STEP, ROUNDED, ROW_COLUMN, SECOND_MOMENT
from castore.objects import nodes
from castore.objects.nodes import Path

_LEAST_WIDTH = 32  # a dimension of less is no row of a matrix, but a kernel's
_FORGETFUL = 0.9  # the share of itself that a moving average keeps at each step, at most
_DEFAULT_EPS = 1e-8  # torch's, of Adam, AdamW, NAdam, RAdam


@dataclass(frozen=True, slots=True)
class Relation:
    """A chunk of a tensor is predicted from the chunks at the same place of others, or from an older one of its own.

    predictor, factors: see `codecs.predicted`. bases: (path, whether the tensor of this state is meant, not the
    parent's); none for ROW_COLUMN. width: words in a row, where rows and columns change together, else 0.
    """

    predictor: int
    bases: tuple[tuple[Path, bool], ...]
    factors: tuple[float, ...] = ()
    width: int = 0


@dataclass(frozen=True, slots=True)
class _Leaf:
    """A dense tensor: its path, dtype and shape as the user sees them."""

    path: Path
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Slot:
    """What an optimizer keeps of one parameter, by name, and the settings of the parameter's group."""

    kept: Mapping[str, _Leaf]
    step_path: Path
    settings: Mapping[str, nodes.Node]


def relations(root: nodes.Node, counters: Callable[[Path], tuple[float, float] | None]) -> dict[Path, Relation]:
    """Relations by the path of the tensor that is predicted.

    counters(path): the number at that path in this state and in the parent, None if it can't be told. Of a step
    counter's: only one step apart do an optimizer's formulas hold.
    """
    found: dict[Path, Relation] = {}
    optimizers = list(_optimizers(root, ()))
    groups = _groups(root, [path for path, _ in optimizers])
    for path, optimizer in optimizers:
        slots = _slots(path, optimizer)
        if not slots:
            continue
        steps = counters(slots[0].step_path)
        step = steps[0] if steps is not None and steps[0] - steps[1] == 1.0 else None
        for leaves in groups.values():
            for slot, weight in _matched(slots, leaves):
                relation = _weight_relation(slot, weight, step)
                if relation is not None:
                    found.setdefault(weight.path, relation)
        found.update(_moments(slots, step is not None))
    found.update(_copies(groups))
    return found


def forgetful(root: nodes.Node) -> frozenset[Path]:
    """Tensors of which a step replaces so much that a delta hardly ever pays: moving averages of gradients.

    One that keeps a share b of itself differs from the one before by sqrt(1 - b**2) of its size, where gradients are
    mostly noise: at 0.9 this saves 1.2 of a float32's 32 bits, and less where more steps lie between.
    """
    found = set()
    for path, optimizer in _optimizers(root, ()):
        for slot in _slots(path, optimizer):
            momentum = _number(slot.settings.get("momentum"), 0.9)
            for name, kept in (("exp_avg", _betas(slot)[0]), ("momentum_buffer", momentum)):
                if name in slot.kept and kept <= _FORGETFUL:
                    found.add(slot.kept[name].path)
    return frozenset(found)


def _optimizers(node: nodes.Node, path: Path) -> Iterator[tuple[Path, nodes.Map]]:
    """Every map that looks like an optimizer's state dict."""
    if isinstance(node, nodes.Map):
        items = {nodes.key_text(key): item for key, item in node.items}
        if isinstance(items.get("state"), nodes.Map) and isinstance(items.get("param_groups"), nodes.Sequence):
            yield path, node
            return
        for name, item in items.items():
            if not isinstance(item, nodes.Value):
                yield from _optimizers(item, (*path, name))
    elif isinstance(node, nodes.Sequence):
        for index, item in enumerate(node.items):
            if not isinstance(item, nodes.Value):
                yield from _optimizers(item, (*path, str(index)))


def _groups(root: nodes.Node, optimizers: list[Path]) -> dict[str, list[_Leaf]]:
    """The dense tensors outside of optimizers, by the first part of their path, in order."""
    found: dict[str, list[_Leaf]] = {}
    for leaf in _leaves(root, ()):
        if leaf.path and not any(leaf.path[: len(one)] == one for one in optimizers):
            found.setdefault(leaf.path[0] if len(leaf.path) > 1 else "", []).append(leaf)
    return found


def _leaves(node: nodes.Node, path: Path) -> Iterator[_Leaf]:
    if isinstance(node, nodes.Tensor):
        yield _Leaf(path, node.dtype, node.shape)
    elif isinstance(node, nodes.Shared):
        if node.data.shape == (math.prod(node.view.shape),) and node.data.dtype == node.view.dtype:
            yield _Leaf(path, node.view.dtype, node.view.shape)
    elif isinstance(node, nodes.Map):
        for key, item in node.items:
            if not isinstance(item, nodes.Value):
                yield from _leaves(item, (*path, nodes.key_text(key)))
    elif isinstance(node, nodes.Sequence):
        for index, item in enumerate(node.items):
            if not isinstance(item, nodes.Value):
                yield from _leaves(item, (*path, str(index)))


def _slots(path: Path, optimizer: nodes.Map) -> list[_Slot]:
    """What the optimizer keeps of each parameter, in the order of `param_groups`."""
    items = {nodes.key_text(key): item for key, item in optimizer.items}
    state, groups = items["state"], items["param_groups"]
    assert isinstance(state, nodes.Map) and isinstance(groups, nodes.Sequence)
    kept = {nodes.key_text(key): item for key, item in state.items}
    found = []
    for group in groups.items:
        if not isinstance(group, nodes.Map):
            continue
        settings = {nodes.key_text(key): item for key, item in group.items}
        numbers = settings.get("params")
        for number in numbers.items if isinstance(numbers, nodes.Sequence) else []:
            name = nodes.key_text(number)
            item = kept.get(name)
            if isinstance(item, nodes.Map):
                parts = {nodes.key_text(key): part for key, part in item.items}
                base = (*path, "state", name)
                leaves = {key: leaf for key, part in parts.items() for leaf in _leaves(part, (*base, key))}
                found.append(_Slot(leaves, (*base, "step"), settings))
    return found


def _matched(slots: list[_Slot], leaves: list[_Leaf]) -> Iterator[tuple[_Slot, _Leaf]]:
    """Parameters and their slots: each slot's is the next tensor of its shape, and also the last that leaves enough for
    those behind it. These differ where layers are frozen, whose weights do not change and so need no prediction."""
    yield from _in_order(slots, leaves)
    yield from _in_order(slots[::-1], leaves[::-1])


def _in_order(slots: list[_Slot], leaves: list[_Leaf]) -> Iterator[tuple[_Slot, _Leaf]]:
    places: dict[tuple[int, ...], list[int]] = {}
    for place, leaf in enumerate(leaves):
        places.setdefault(leaf.shape, []).append(place)
    at = 0
    for slot in slots:
        following = []
        for shape in {leaf.shape for name, leaf in slot.kept.items() if name != "step"}:
            known = places.get(shape, [])
            first = bisect.bisect_left(known, at)
            following += known[first : first + 1]
        if following:
            at = min(following) + 1
            yield slot, leaves[at - 1]


def _weight_relation(slot: _Slot, weight: _Leaf, step: float | None) -> Relation | None:
    """step: the number of the step that lies between, if it is one."""
    if weight.dtype != "float32":
        return None
    old = (weight.path, False)
    first, second = slot.kept.get("exp_avg"), slot.kept.get("exp_avg_sq")
    momentum = slot.kept.get("momentum_buffer")
    if first is not None and second is not None and step is not None:
        beta2, eps = _betas(slot)[1], _number(slot.settings.get("eps"), _DEFAULT_EPS)
        correction = 1.0 - beta2**step
        if correction > 0.0:
            factors = (math.sqrt(correction), eps)
            return Relation(ADAPTIVE_STEP, (old, (first.path, True), (second.path, True)), factors)
    if momentum is not None and momentum.dtype == "float32":
        return Relation(MOMENTUM_STEP, (old, (momentum.path, True)))
    return None


def _moments(slots: list[_Slot], one_apart: bool) -> Iterator[tuple[Path, Relation]]:
    for slot in slots:
        first, second = slot.kept.get("exp_avg"), slot.kept.get("exp_avg_sq")
        if second is None or second.dtype != "float32":
            continue
        width = row_width(second.shape)
        beta1, beta2 = _betas(slot)
        if one_apart and first is not None and first.shape == second.shape and 0.0 <= beta1 < 1.0:
            bases = ((second.path, False), (first.path, False), (first.path, True))
            yield second.path, Relation(SECOND_MOMENT, bases, (1.0 - beta1, beta2, 1.0 - beta2), width)
        elif width:
            yield second.path, Relation(ROW_COLUMN, (), width=width)


def row_width(shape: tuple[int, ...]) -> int:
    """Words in a row of a tensor that is taken for a matrix: its last dimension, or the last few if that is a kernel's;
    0 if there are no rows then."""
    width = 1
    for place in range(len(shape) - 1, 0, -1):
        width *= shape[place]
        if width >= _LEAST_WIDTH:
            return width if math.prod(shape[:place]) > 1 else 0
    return 0


def _copies(groups: Mapping[str, list[_Leaf]]) -> Iterator[tuple[Path, Relation]]:
    """bfloat16 tensors that have a float32 one of the same name and shape under another first key."""
    masters: dict[tuple[Path, tuple[int, ...]], Path] = {}
    for leaves in groups.values():
        for leaf in leaves:
            if leaf.dtype == "float32":
                masters.setdefault((leaf.path[1:], leaf.shape), leaf.path)
    for leaves in groups.values():
        for leaf in leaves:
            master = masters.get((leaf.path[1:], leaf.shape)) if leaf.dtype == "bfloat16" else None
            if master is not None and leaf.path[1:]:
                yield leaf.path, Relation(ROUNDED, ((master, True),))


def _betas(slot: _Slot) -> tuple[float, float]:
    betas = slot.settings.get("betas")
    if isinstance(betas, nodes.Sequence) and len(betas.items) == 2:
        return _number(betas.items[0], 0.9), _number(betas.items[1], 0.999)
    return 0.9, 0.999


def _number(node: nodes.Node | None, default: float) -> float:
    if isinstance(node, nodes.Value) and isinstance(node.value, (int, float)):
        return float(node.value)
    return default
