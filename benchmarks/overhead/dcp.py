"""PyTorch's distributed checkpoint (DCP) in one process, in each way that it can be used there.

Its file system writer fsyncs its files by default, and never their folders: as it is, so it is measured.
"""

from __future__ import annotations

import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from benchmarks.overhead.job import Job


class Save:
    name = "dcp"
    what = "torch.distributed.checkpoint.save"

    def __init__(self, folder: Path, job: Job, every: int) -> None:
        import torch.distributed.checkpoint  # not above: the other methods' memory must not include it

        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        self.folder = folder
        self.job = job
        self._dcp = torch.distributed.checkpoint
        self._begun: Future[Any] | None = None

    def take(self, step: int) -> None:
        self._path = self.folder / str(step)
        self._dcp.save(self.job.state(), checkpoint_id=self._path, no_dist=True)

    def pass_by(self, step: int) -> None:
        pass

    def before_update(self) -> None:
        pass

    def wait(self) -> None:
        if self._begun is not None:
            self._begun.result()
            self._begun = None

    def last(self) -> Any:
        # DCP loads into what there is.
        target = tree_map(lambda one: torch.zeros_like(one) if isinstance(one, torch.Tensor) else one, self.job.state())
        self._dcp.load(target, checkpoint_id=self._path, no_dist=True)
        return target

    def close(self) -> None:
        pass


class Async(Save):
    name = "dcp-async"
    what = "async_save as it is by default: staged into new memory each time, written by a thread"

    def take(self, step: int) -> None:
        self._path = self.folder / str(step)
        self._begun = self._dcp.async_save(self.job.state(), checkpoint_id=self._path, no_dist=True)


class AsyncReused(Save):
    """The memory of the stager must not be overwritten before the write from it is done: the loop waits first."""

    name = "dcp-async-reused"
    what = "async_save with one DefaultStager for all saves, which keeps its memory"

    def __init__(self, folder: Path, job: Job, every: int) -> None:
        super().__init__(folder, job, every)
        self._stager = _stager(job, in_thread=False)

    def take(self, step: int) -> None:
        self._path = self.folder / str(step)
        self._begun = self._dcp.async_save(
            self.job.state(), checkpoint_id=self._path, async_stager=self._stager, no_dist=True
        )

    def close(self) -> None:
        self._stager.close()


class AsyncOverlapped(Save):
    name = "dcp-async-overlapped"
    what = "the same, staged by a thread while the next step computes gradients; the loop waits before its update"

    def __init__(self, folder: Path, job: Job, every: int) -> None:
        super().__init__(folder, job, every)
        self._stager = _stager(job, in_thread=True)
        self._staged: Future[Any] | None = None

    def take(self, step: int) -> None:
        self._path = self.folder / str(step)
        begun = self._dcp.async_save(
            self.job.state(), checkpoint_id=self._path, async_stager=self._stager, no_dist=True
        )
        self._staged, self._begun = begun.staging_completion, begun.upload_completion

    def before_update(self) -> None:
        if self._staged is not None:
            self._staged.result()
            self._staged = None

    def close(self) -> None:
        self._stager.close()


def _stager(job: Job, in_thread: bool) -> Any:
    """A stager that keeps its memory. Pinned memory and copies that don't block need a device: there it has both.

    That of torch 2.11 closes what it copies with after each copy, which frees the memory, and fails at the next one:
    here it stays open, as with torch 2.13, and its memory goes with the process.
    """
    from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

    on_device = job.device != "cpu"
    stager = DefaultStager(
        StagingOptions(
            use_pinned_memory=on_device,
            use_shared_memory=False,
            use_async_staging=in_thread,
            use_non_blocking_copy=on_device,
        )
    )
    stager._state_dict_stager.close = lambda: None  # type: ignore[method-assign]
    return stager
