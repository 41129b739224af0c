"""What a ResumableSampler commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from castore.errors import StateError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class SamplerState:
    """epoch and batches: those of it that the loop had got. batch_size, length: in samples.

    rng: random state at the begin of the epoch, with which a resume makes the DataLoader's iterator; None where that
    draws from the present one, since the epoch has not begun. generator: the present state of the DataLoader's own
    generator, if it has one.
    """

    epoch: int
    batches: int
    batch_size: int
    length: int
    seed: int
    shuffle: bool
    workers: int
    rng: torch.Tensor | None
    generator: torch.Tensor | None

    def to_dict(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> SamplerState:
        """Read and check it. Raises StateError."""
        missing = [field.name for field in fields(cls) if field.name not in state]
        if missing:
            raise StateError(f"this is no state of a ResumableSampler: {missing[0]!r} is missing")
        values = {field.name: state[field.name] for field in fields(cls)}
        for name in ("epoch", "batches", "batch_size", "length", "workers"):
            if type(values[name]) is not int or values[name] < 0:
                raise StateError(f"the state of a ResumableSampler has {name} = {values[name]!r}, which is no count")
        if values["batches"] * values["batch_size"] >= values["length"] + max(1, values["batch_size"]):
            raise StateError(f"the state of a ResumableSampler has more batches than an epoch: {values['batches']}")
        for name in ("rng", "generator"):
            if values[name] is not None:
                values[name] = values[name].cpu()
        return cls(**values)
