"""Whether a commit of a loop's state is going to find room, asked before the first step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from castore.errors import StorageError
from castore.quantities import size
from castore.state.live import flatten
from castore.store import Store
from castore.training import parts


def check(store: Store, branch: str, objects: Mapping[str, Any]) -> None:
    """Raises StorageError when the disk has less room than the next commit is going to take; StateError when the
    state has a leaf that can't be kept."""
    needed = expected_bytes(store, branch, objects)
    free = shutil.disk_usage(store.path).free
    if free < needed:
        raise StorageError(
            f"{store.path} has {size(free)} of free space, and a commit of this state needs about {size(needed)}; "
            "free some, or keep the store on another disk"
        )


def expected_bytes(store: Store, branch: str, objects: Mapping[str, Any]) -> int:
    """What the next commit takes: on a branch with commits as much as the last one, else the raw size of the state,
    with what optimizers keep once they have made a step."""
    flat = flatten(parts.state_of(objects))
    raw = sum(source.nbytes for source in flat.sources)
    raw += sum(_to_come(optimizer) for optimizer in parts.optimizers_of(objects))
    if branch in store.branches():
        return min(raw, max(store.show(branch).stats.total.stored_bytes, raw // 8))
    return raw


def _to_come(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of the state that an optimizer without any will make at its first step: as Adam does, or SGD."""
    if optimizer.state:
        return 0
    return sum(
        (2 if "betas" in group else 1 if group.get("momentum") else 0) * param.nbytes
        for group, param in _params(optimizer)
    )


def _params(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.requires_grad:
                yield group, param
