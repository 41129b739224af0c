"""Whether a commit of a loop's state is going to find room, asked before the first step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from castore.errors import StorageError
from castore.quantities import size
from castore.state.live import flatten
from castore.store import Store
from castore.training import parts
from castore.training.devices import device_of


@dataclass(frozen=True, slots=True)
class Expected:
    """What a loop's state is going to take: raw bytes, with what optimizers keep once they have made a step.

    trains: whether there is an optimizer. on_device: whether a CUDA device holds some of it.
    """

    raw_bytes: int
    trains: bool
    on_device: bool


def check(store: Store, branch: str, objects: Mapping[str, Any]) -> Expected:
    """Raises StorageError when the disk has less room than the next commit is going to take; StateError when the
    state has a leaf that can't be kept."""
    expected = _expected(objects)
    needed = _next_bytes(store, branch, expected.raw_bytes)
    free = shutil.disk_usage(store.path).free
    if free < needed:
        raise StorageError(
            f"{store.path} has {size(free)} of free space, and a commit of this state needs about {size(needed)}; "
            "free some, or keep the store on another disk"
        )
    return expected


def _expected(objects: Mapping[str, Any]) -> Expected:
    sources = flatten(parts.state_of(objects)).sources
    optimizers = parts.optimizers_of(objects)
    raw = sum(source.nbytes for source in sources) + sum(map(_to_come, optimizers))
    return Expected(raw, bool(optimizers), any(device_of(source) is not None for source in sources))


def _next_bytes(store: Store, branch: str, raw: int) -> int:
    """What the next commit takes: on a branch with commits as much as the last one, else all of the state."""
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
