"""Where a data loader is in its data: which loaders can say, and what of it can't be given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader

from castore.training.sampler import ResumableSampler


class StatefulLoader:
    """A loader that keeps its own state (torchdata's StatefulDataLoader)."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.loader.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loader.load_state_dict(state)
        # Asked for its state it makes its iterator at once, not when the loop begins: making one draws from the global
        # generators, which are put back after this.
        self.loader.state_dict()


def loader_part(name: str, loader: DataLoader[Any]) -> tuple[Any, str | None]:
    """What keeps a loader's place, and what about it can't be restored, None if all can.

    (None, why) for a loader that can't say where it is.
    """
    if callable(getattr(loader, "state_dict", None)):
        inexact = None
        if loader.num_workers:
            inexact = (
                f"{name}: random numbers that its dataset may draw inside worker processes start over in mid-epoch"
            )
        return StatefulLoader(loader), inexact
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if isinstance(sampler, ResumableSampler):
        sampler.watch(loader)
        return sampler, sampler.inexact(loader)
    return None, (
        f"{name}: a DataLoader does not say where it is, so a resumed run begins its epoch anew with other data; give "
        "it sampler=castore.ResumableSampler(dataset), or use torchdata's StatefulDataLoader"
    )
