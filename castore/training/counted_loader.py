"""Which DataLoaders a ResumableSampler can count for, and what it needs to know of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from castore.errors import UsageError


@dataclass(frozen=True, slots=True)
class CountedLoader:
    """batch_size: in samples. persistent: whether its workers outlive an epoch. generator: its own; None: torch's."""

    batch_size: int
    workers: int
    persistent: bool
    generator: torch.Generator | None


def counted_loader(loader: object, sampler: Sampler[int]) -> CountedLoader:
    """What is to be known of a loader that takes its indices from `sampler`.

    Raises UsageError where counting batches would not say which samples the loop has got, or where it is not needed.
    """
    kind = type(loader).__name__
    if hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict"):
        raise UsageError(f"watch: a {kind} keeps its own state and needs no ResumableSampler; commit it as it is")
    if not isinstance(loader, DataLoader):
        raise UsageError(f"watch: a {kind} is no DataLoader of torch")
    batches = loader.batch_sampler
    if (loader.sampler if batches is None else getattr(batches, "sampler", None)) is not sampler:
        raise UsageError("watch: this DataLoader takes its indices elsewhere; make it with sampler=this sampler")
    if batches is not None and type(batches) is not BatchSampler:
        kind = type(batches).__name__
        raise UsageError(f"watch: which samples a {kind} puts into a batch is not known; use torch's BatchSampler")
    if not getattr(loader, "in_order", True):
        raise UsageError("watch: with in_order=False it is not known which batches the loop has got; leave it out")
    size = 1 if batches is None else batches.batch_size
    return CountedLoader(
        size, loader.num_workers, loader.persistent_workers and loader.num_workers > 0, loader.generator
    )


def inexact(loader: DataLoader[Any], replay: bool) -> str | None:
    """What a resume in mid-epoch can't restore; None if it restores everything."""
    if loader.num_workers == 0:
        return None
    if not replay:
        return (
            f"what is drawn at random in the {loader.num_workers} workers of the DataLoader (augmentation) is not "
            "restored by a resume in mid-epoch; ResumableSampler(replay=True) restores it, by loading the epoch's "
            "earlier batches once more"
        )
    if loader.persistent_workers:
        return (
            "what is drawn at random in persistent workers (augmentation) is restored by a resume in their first "
            "epoch only; persistent_workers=False restores it in any"
        )
    return None
