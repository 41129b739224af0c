"""Tensors that share memory: which of a state's tensors do, and the span of memory that is then kept once.

Overlap is judged by address ranges. Tensors that merely lie in one storage without overlapping stay independent, so a
small slice of a huge buffer costs only its own elements.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from castore.objects import nodes
from castore.objects.nodes import Node
from castore.state.live.elements import NAME_OF_TORCH
from castore.state.live.sources import TensorSource, TorchSource

# (lo, hi, number of its source): the addresses [lo, hi) that a tensor reaches. A bare tuple of ints, since there is one
# for every tensor of a state and the garbage collector does not have to look into it.
Extent = tuple[int, int, int]

_ALIGNMENT = 16  # bytes; of the widest element, so that every view of a base of bytes stays aligned


def extent(tensor: torch.Tensor, index: int) -> Extent:
    """The extent of a non-empty strided tensor."""
    lo = tensor.data_ptr()
    if tensor.is_contiguous():
        return lo, lo + tensor.numel() * tensor.element_size(), index
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return lo, lo + (reach + 1) * tensor.element_size(), index


def share(
    root: Node, sources: list[TensorSource], met: dict[torch.device, list[Extent]]
) -> tuple[Node, list[TensorSource]]:
    """`root` and `sources` with every group of overlapping tensors replaced by one `Shared` and `View`s of it.

    met: the extents of non-empty tensors without conjugate or negative bit, by device.
    """
    groups = [group for extents in met.values() for group in _groups(extents, sources)]
    groups.sort(key=lambda group: group[0][2])
    replaced: dict[int, Node] = {}
    kept: list[TensorSource | None] = list(sources)
    number = 0
    for group in groups:
        members = [_torch(sources, index) for _, _, index in group]
        base = _base(group, [member.tensor for member in members])
        if base is None:
            continue
        lo, memory = base
        data = nodes.Tensor("tensor", NAME_OF_TORCH[memory.dtype], tuple(memory.shape))
        views = [_view(number, member, at - lo) for member, (at, _, _) in zip(members, group, strict=True)]
        replaced.update((id(member.entry), view) for member, view in zip(members, views, strict=True))
        replaced[id(members[0].entry)] = nodes.Shared(number, data, views[0])
        for _, _, index in group:
            kept[index] = None
        kept[group[0][2]] = TorchSource(members[0].path, data, memory)
        number += 1
    if replaced:
        root = _replace(root, replaced)
    return root, [source for source in kept if source is not None]


def _torch(sources: list[TensorSource], index: int) -> TorchSource:
    source = sources[index]
    assert isinstance(source, TorchSource)
    return source


def _groups(extents: list[Extent], sources: list[TensorSource]) -> Iterator[list[Extent]]:
    """Overlapping extents, each group in the order of the state; also lone ones that overlap themselves (expanded)."""
    extents.sort()
    run: list[Extent] = []
    end = 0
    for found in extents:
        if run and found[0] >= end:
            yield from _group(run, sources)
            run = []
        run.append(found)
        end = max(end, found[1])
    yield from _group(run, sources)


def _group(run: list[Extent], sources: list[TensorSource]) -> Iterator[list[Extent]]:
    if len(run) > 1:
        yield sorted(run, key=lambda found: found[2])
    elif run and run[0][1] - run[0][0] < sources[run[0][2]].nbytes:
        yield run


def _base(group: list[Extent], tensors: list[torch.Tensor]) -> tuple[int, torch.Tensor] | None:
    """The address and the memory, as one dimension, that all of a group lie in.

    None where no one storage covers them or they cannot be aligned in it: they are then kept one by one.
    """
    lo, hi = min(found[0] for found in group), max(found[1] for found in group)
    for tensor in tensors:
        storage = tensor.untyped_storage()
        begin = storage.data_ptr()
        if begin <= lo and hi <= begin + storage.nbytes():
            break
    else:
        return None
    widths = [tensor.element_size() for tensor in tensors]
    dtype = tensors[0].dtype
    if any(tensor.dtype != dtype for tensor in tensors) or (lo - begin) % widths[0]:
        dtype, lo = torch.uint8, lo - (lo - begin) % _ALIGNMENT
    if any((found[0] - lo) % width for found, width in zip(group, widths, strict=True)):
        return None
    memory = torch.empty(0, dtype=dtype, device=tensors[0].device)
    with torch.no_grad():
        memory.set_(storage, (lo - begin) // dtype.itemsize, ((hi - lo) // dtype.itemsize,), (1,))
    return lo, memory


def _view(number: int, member: TorchSource, offset: int) -> nodes.View:
    entry, stride = member.entry, tuple(member.tensor.stride())
    return nodes.View(number, entry.kind, entry.dtype, entry.shape, stride, offset, entry.requires_grad)


def _replace(node: Node, replaced: dict[int, Node]) -> Node:
    if isinstance(node, nodes.Tensor):
        return replaced.get(id(node), node)
    if isinstance(node, nodes.Map):
        node.items = [(key, _replace(item, replaced)) for key, item in node.items]
    elif isinstance(node, nodes.Sequence):
        node.items = [_replace(item, replaced) for item in node.items]
    elif isinstance(node, nodes.Compound):
        node.parts = [_replace(part, replaced) for part in node.parts]
    return node
