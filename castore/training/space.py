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
from castore.training.layout import LARGE_BYTES, is_large, place_bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """What a loop's state is going to take, with what optimizers keep once they have made a step.

    raw_bytes: on the disk, uncompressed. copied_bytes: of memory that a copy of its large tensors is laid out in.
    trains: whether there is an optimizer. device: a CUDA device that holds some of it.
    """

    raw_bytes: int
    copied_bytes: int
    trains: bool
    device: torch.device | None


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
    to_come = [nbytes for optimizer in optimizers for nbytes in _to_come(optimizer)]
    raw = sum(source.nbytes for source in sources) + sum(to_come)
    large = [source.nbytes for source in sources if is_large(source)]
    large += [nbytes for nbytes in to_come if nbytes >= LARGE_BYTES]
    device = next((found for source in sources if (found := device_of(source)) is not None), None)
    return Expected(raw, sum(map(place_bytes, large)), bool(optimizers), device)


def _next_bytes(store: Store, branch: str, raw: int) -> int:
    """What the next commit takes: on a branch with commits as much as the last one, else all of the state."""
    if branch in store.branches():
        return min(raw, max(store.show(branch).stats.total.stored_bytes, raw // 8))
    return raw


def _to_come(optimizer: torch.optim.Optimizer) -> list[int]:
    """Bytes of each tensor that an optimizer without any will make at its first step: as Adam does, or SGD."""
    if optimizer.state:
        return []
    return [
        param.nbytes
        for group, param in _params(optimizer)
        for _ in range(2 if "betas" in group else 1 if group.get("momentum") else 0)
    ]


def _params(optimizer: torch.optim.Optimizer) -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.requires_grad:
                yield group, param
