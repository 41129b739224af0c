"""What copies from CUDA devices need: memory that these write into directly, and a moment when they are done."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import torch

from castore.errors import StorageError
from castore.state.live.sources import TensorSource, TorchSource
from castore.training.arena import Segment


def device_of(source: TensorSource) -> torch.device | None:
    """The CUDA device that a source's tensor is on; None for one in memory, or on a device of another kind."""
    if isinstance(source, TorchSource) and source.tensor.device.type == "cuda":
        return source.tensor.device
    return None


class Pin:
    """Keeps pages of a segment locked, so that devices write into them at full speed while the loop goes on.

    It holds on to the memory until it has released it, also when nobody closes anything: what is given back while the
    driver believes it locked makes CUDA fail later, wherever the same addresses are used again.
    """

    def __init__(self, segment: Segment, first: int, last: int, device: torch.device) -> None:
        """Lock bytes [first, last), whole pages, for a device and with it for all. Raises StorageError."""
        self._memory: torch.Tensor | None = None
        memory = torch.frombuffer(segment.view, dtype=torch.uint8, count=last - first, offset=first)
        try:
            with torch.cuda.device(device):  # which in a new thread would be the first one, used or not
                torch.cuda.check_error(_runtime().cudaHostRegister(memory.data_ptr(), last - first, 0))
        except RuntimeError as error:
            raise StorageError(
                f"cannot lock {last - first} bytes of memory for {device} to copy into ({error}); set "
                "delta_base='disk', which needs half of it, or allow the process to lock more memory"
            ) from None
        self._memory = memory

    def release(self) -> None:
        """Unlock the pages. May be repeated."""
        memory, self._memory = self._memory, None
        if memory is not None:
            torch.cuda.check_error(_runtime().cudaHostUnregister(memory.data_ptr()))

    def __del__(self) -> None:
        if not sys.is_finalizing():  # else the driver goes with the process, and may be gone already
            self.release()


class Pending:
    """Copies that were begun from devices, on their current streams."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._events = [_recorded(device) for device in devices]

    def wait(self) -> None:
        """Return when they are done. From any thread."""
        for event in self._events:
            event.synchronize()


def _recorded(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event


def _runtime() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]
