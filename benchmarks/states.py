"""Nested states: their tensors, their bytes, whether two are the same, and synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

FULL_STATES = {  # kinds of trajectories whose commits and loads are timed, and what figures call them
    "gpt-fp32": "full fp32 state",
    "gpt-bf16": "full bf16 state",
    "finetune": "fine-tune, frozen layers",
    "lora": "LoRA",
}


def tensors_of(state: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in dicts, lists and tuples, with its path: `optimizer/state/0/exp_avg`."""
    if isinstance(state, torch.Tensor):
        yield path, state
    elif isinstance(state, Mapping):
        for name, part in state.items():
            yield from tensors_of(part, f"{path}/{name}" if path else str(name))
    elif isinstance(state, list | tuple):
        for i, part in enumerate(state):
            yield from tensors_of(part, f"{path}/{i}" if path else str(i))


def tensor_bytes(state: Any) -> int:
    return sum(tensor.nbytes for _, tensor in tensors_of(state))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether dtype, shape and every bit agree, NaNs included, wherever they lie."""
    a, b = a.cpu(), b.cpu()
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    flat_a, flat_b = a.contiguous().flatten(), b.contiguous().flatten()
    return torch.equal(flat_a.view(torch.uint8), flat_b.view(torch.uint8))


def same_state(a: Any, b: Any) -> bool:
    """Whether two states hold the same values of the same types, tensors bit for bit."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and same_bits(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same_state(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same_state(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def changed_bytes(old: Any, new: Any) -> int:
    """Bytes of the tensors of `new` that differ from the tensor at the same path of `old`, or aren't there."""
    before = dict(tensors_of(old))
    return sum(
        tensor.nbytes for path, tensor in tensors_of(new) if path not in before or not same_bits(before[path], tensor)
    )


def large_state(total_bytes: int, step: int = 0, tensor_bytes: int = 16 << 20) -> dict[str, Any]:
    """fp32 normals in tensors of `tensor_bytes`, at most `total_bytes`; each `step` moves every value a little."""
    count = max(1, total_bytes // tensor_bytes)
    size = min(total_bytes, tensor_bytes) // 4
    state = {}
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        tensor = torch.empty(size).normal_(generator=generator)
        if step:
            tensor.mul_(1 + 1e-4 * step)
        state[f"layers.{i}.weight"] = tensor
    return {"model": state, "step": step}


def small_tensors(count: int, seed: int = 0) -> dict[str, Any]:
    """`count` fp32 tensors of 1 KB each."""
    values = torch.empty(count, 256).normal_(generator=torch.Generator().manual_seed(seed))
    return {"model": {f"layers.{i}.bias": values[i].clone() for i in range(count)}}
