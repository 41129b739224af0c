"""castore and what it is compared with: ways to save a state in a folder over and over, and to load the newest."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from benchmarks.states import large_state, same_bits

State = Mapping[str, torch.Tensor]


class System(Protocol):
    """Keeps checkpoints in a folder. name: short, for tables. what: what it is, for people."""

    name: str
    what: str

    def __init__(self, like: State) -> None:
        """like: what all states look like, which a program that starts again knows."""
        ...

    def save(self, folder: Path, state: State, step: int) -> None:
        """Save; durable in the way of the system when it returns."""
        ...

    def load(self, folder: Path) -> State:
        """The newest checkpoint, as a program finds it that starts again. Raises whatever the system does."""
        ...

    def load_older(self, folder: Path) -> State:
        """The one before the newest. Raises LookupError where there is none of its own."""
        ...


class _OneFile:
    def __init__(self, like: State) -> None:
        self._like = like

    def load_older(self, folder: Path) -> State:
        raise LookupError("the newest checkpoint took the place of the one before")


class TorchSave(_OneFile):
    name = "torch.save"
    what = "torch.save over the last checkpoint's file, then fsync"

    def save(self, folder: Path, state: State, step: int) -> None:
        torch.save(state, folder / "last.pt")
        sync(folder / "last.pt")

    def load(self, folder: Path) -> State:
        return _loaded(folder / "last.pt")


class TorchSaveRenamed(TorchSave):
    name = "torch.save, renamed"
    what = "torch.save to a file beside it, fsync, a rename over the last checkpoint's file, fsync of the folder"

    def save(self, folder: Path, state: State, step: int) -> None:
        torch.save(state, folder / "last.pt.tmp")
        sync(folder / "last.pt.tmp")
        (folder / "last.pt.tmp").replace(folder / "last.pt")
        sync(folder)


class TorchSaveNumbered(TorchSave):
    name = "torch.save, numbered"
    what = (
        "torch.save to a file of its own for each step, fsync of it and of the folder; the newest is the last of them"
    )

    def save(self, folder: Path, state: State, step: int) -> None:
        path = folder / f"{step:06}.pt"
        torch.save(state, path)
        sync(path)
        sync(folder)

    def load(self, folder: Path) -> State:
        return _loaded(sorted(folder.glob("*.pt"))[-1])

    def load_older(self, folder: Path) -> State:
        return _loaded(_before_the_last(folder, "*.pt"))


class Safetensors(_OneFile):
    name = "safetensors"
    what = "safetensors.torch.save_file, which itself renames a file over the last checkpoint's, then fsync"

    def save(self, folder: Path, state: State, step: int) -> None:
        from safetensors.torch import save_file

        save_file(dict(state), folder / "last.safetensors")
        sync(folder / "last.safetensors")

    def load(self, folder: Path) -> State:
        from safetensors.torch import load_file

        return load_file(folder / "last.safetensors")


class Dcp(_OneFile):
    name = "DCP"
    what = "torch.distributed.checkpoint.save into the last checkpoint's folder; it syncs its files itself"

    def save(self, folder: Path, state: State, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(dict(state), checkpoint_id=folder / "last", no_dist=True)

    def load(self, folder: Path) -> State:
        return self._loaded(folder / "last")

    def _loaded(self, path: Path) -> State:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.api import CheckpointException

        target = {name: torch.full_like(tensor, float("nan")) for name, tensor in self._like.items()}  # loaded into
        try:
            dcp.load(target, checkpoint_id=path, no_dist=True)
        except CheckpointException as error:  # no Exception, as DCP has it
            raise RuntimeError("DCP does not load it") from error
        return target


class DcpNumbered(Dcp):
    name = "DCP, numbered"
    what = "torch.distributed.checkpoint.save to a folder of its own for each step; the newest is the last of them"

    def save(self, folder: Path, state: State, step: int) -> None:
        import torch.distributed.checkpoint as dcp

        dcp.save(dict(state), checkpoint_id=folder / f"{step:06}", no_dist=True)

    def load(self, folder: Path) -> State:
        return self._loaded(sorted(folder.iterdir())[-1])

    def load_older(self, folder: Path) -> State:
        return self._loaded(_before_the_last(folder, "*"))


class Castore:
    name = "castore"
    what = "Store.commit to a branch; the newest is what the branch leads to. The store is opened at each save"

    def __init__(self, like: State) -> None:
        import castore

        self._run = castore.Run()  # what a process gathers once, at its first commit

    def save(self, folder: Path, state: State, step: int) -> None:
        import castore

        with castore.open(folder, create=True) as store:
            store.commit(dict(state), step=step, run=self._run)

    def load(self, folder: Path) -> State:
        import castore

        with castore.open(folder) as store:
            state: State = store.load("main")
            return state

    def load_older(self, folder: Path) -> State:
        import castore

        with castore.open(folder) as store:
            state: State = store.load("main~1")
            return state


SYSTEMS: tuple[type[System], ...] = (
    TorchSave,
    TorchSaveRenamed,
    TorchSaveNumbered,
    Safetensors,
    Dcp,
    DcpNumbered,
    Castore,
)


def state_of(total_bytes: int, step: int) -> dict[str, torch.Tensor]:
    """A state in eight tensors, of which every value moves a little with each step."""
    return {name: tensor * (1 + 1e-4 * step) for name, tensor in _base(total_bytes).items()}


@functools.lru_cache(maxsize=1)
def _base(total_bytes: int) -> State:
    made: State = large_state(total_bytes, 0, total_bytes // 8)["model"]
    return made


def same(a: State, b: State) -> bool:
    """Whether two states are the same, bit for bit."""
    return a.keys() == b.keys() and all(same_bits(a[name], b[name]) for name in a)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _loaded(path: Path) -> State:
    state: State = torch.load(path, weights_only=True)
    return state


def _before_the_last(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) < 2:
        raise LookupError("there is one checkpoint")
    return found[-2]
