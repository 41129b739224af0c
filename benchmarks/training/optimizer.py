"""AdamW over bf16 weights, with fp32 masters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch


class MasterWeightsAdamW(torch.optim.AdamW):
    """AdamW that steps fp32 masters and rounds them to bf16 into the weights.

    The weights hold bf16 values in fp32 storage: most CPUs multiply bf16 thirty times more slowly, and an fp32 product
    of bf16 values is what an accelerator with fp32 accumulation computes.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter], **options: Any) -> None:
        self._weights = list(weights)
        self.masters = [torch.nn.Parameter(weight.detach().clone()) for weight in self._weights]
        super().__init__(self.masters, **options)
        self._round()

    @torch.no_grad()
    def load_masters(self, masters: Sequence[torch.Tensor]) -> None:
        """Take the values of `masters`, in the order of the weights."""
        for own, saved in zip(self.masters, masters, strict=True):
            own.copy_(saved)
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        for weight, master in zip(self._weights, self.masters, strict=True):
            weight.copy_(master.bfloat16())

    def step(self, closure: Any = None) -> Any:
        for weight, master in zip(self._weights, self.masters, strict=True):
            master.grad = weight.grad
        result = super().step(closure)
        self._round()
        return result

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None


def bf16_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A model's state dict in bf16; exact, because its values are bf16 already."""
    return {name: tensor.bfloat16() for name, tensor in state.items()}
