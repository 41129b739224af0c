"""The ways to checkpoint a job, behind one small interface. torch.save's and castore's are here; DCP's in dcp.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.overhead import dcp
from benchmarks.overhead.job import Job


class Method(Protocol):
    """Keeps checkpoints in the folder that it was made with. `step` counts as the policy of castore does: from 0.

    name: short, for tables. what: what it is, for people.
    """

    name: str
    what: str

    def __init__(self, folder: Path, job: Job, every: int) -> None: ...

    def take(self, step: int) -> None:
        """Take a checkpoint at the end of a step. All that is saved may change after the next `before_update`."""
        ...

    def pass_by(self, step: int) -> None:
        """What the loop calls at the end of a step without a checkpoint."""
        ...

    def before_update(self) -> None:
        """What the loop calls in every step before the optimizer changes the state."""
        ...

    def wait(self) -> None:
        """Return when all that was taken is durable."""
        ...

    def last(self) -> Any:
        """The newest checkpoint, loaded into new memory; None if the method keeps none."""
        ...

    def close(self) -> None: ...


class Nothing:
    """What the others have in common, and the run that all are compared with."""

    name = "none"
    what = "no checkpoints"

    def __init__(self, folder: Path, job: Job, every: int) -> None:
        self.folder = folder
        self.job = job

    def take(self, step: int) -> None:
        pass

    def pass_by(self, step: int) -> None:
        pass

    def before_update(self) -> None:
        pass

    def wait(self) -> None:
        pass

    def last(self) -> Any:
        return None

    def close(self) -> None:
        pass


class TorchSave(Nothing):
    name = "torch.save"
    what = "torch.save, then fsync of the file and of its folder"

    def take(self, step: int) -> None:
        self._path = self.folder / f"{step}.pt"
        save_durably(self.job.state(), self._path)

    def last(self) -> Any:
        return torch.load(self._path, weights_only=True, mmap=False)


def save_durably(state: dict[str, Any], path: Path) -> None:
    """torch.save, then fsync of the file and of its folder."""
    torch.save(state, path)
    for name in (path, path.parent):
        descriptor = os.open(name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


class Castore:
    """A Checkpointer with a policy that says when, and no bound: what is asked for is committed."""

    name = "castore"
    what = "castore.Checkpointer as it is by default: a process makes the commits, the delta base is in memory"
    worker = "process"
    delta_base = "memory"
    effort = "auto"

    def __init__(self, folder: Path, job: Job, every: int) -> None:
        import castore  # not above: the other methods' memory must not include it

        self.store = castore.open(folder, create=True)
        self.checkpointer = castore.Checkpointer(
            self.store,
            policy={"every_steps": every, "max_overhead": None, "when_busy": "wait"},
            worker=self.worker,
            delta_base=self.delta_base,
            effort=self.effort,
            report=False,
            model=job.model,
            optimizer=job.optimizer,
            batches=job.batches,
        )

    def take(self, step: int) -> None:
        if not self.checkpointer.step(step):
            raise RuntimeError(f"castore did not commit at step {step}, where its policy asks for it")

    def pass_by(self, step: int) -> None:
        if self.checkpointer.step(step):
            raise RuntimeError(f"castore committed at step {step}, where its policy does not ask for it")

    def before_update(self) -> None:
        pass

    def wait(self) -> None:
        self.checkpointer.wait()

    def last(self) -> Any:
        loaded = self.store.load("main")
        return {name: loaded[name] for name in ("model", "optimizer", "batches")}

    def close(self) -> None:
        self.checkpointer.close()
        self.store.close()


class CastoreFull(Castore):
    name = "castore-full"
    what = 'the same with effort="full": deltas and compression, although training keeps all cores busy'
    effort = "full"


class CastoreThread(Castore):
    name = "castore-thread"
    what = 'the same with worker="thread"'
    worker = "thread"


class CastoreDisk(Castore):
    name = "castore-disk"
    what = 'the same with delta_base="disk"'
    delta_base = "disk"


METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Nothing,
        TorchSave,
        dcp.Save,
        dcp.Async,
        dcp.AsyncReused,
        dcp.AsyncOverlapped,
        Castore,
        CastoreFull,
        CastoreThread,
        CastoreDisk,
    )
}
CASTORE = tuple(name for name, method in METHODS.items() if issubclass(method, Castore))
# With a GPU at work, processors are idle: "auto" is "full" there.
ON_DEVICE = tuple(name for name in METHODS if name not in ("dcp", "castore-full"))
