"""What copies from CUDA devices need: memory that these write into directly, and a moment when they are done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from castore.state.live.sources import TensorSource, TorchSource
from castore.training.arena import Segment


def device_of(source: TensorSource) -> torch.device | None:
    """The CUDA device that a source's tensor is on; None for one in memory, or on a device of another kind."""
    if isinstance(source, TorchSource) and source.tensor.device.type == "cuda":
        return source.tensor.device
    return None


def pin(segment: Segment) -> None:
    """Lock a segment's pages, so that devices write into them at full speed and without a stop on the way."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    torch.cuda.check_error(runtime.cudaHostRegister(_address(segment), segment.nbytes, 0))
    segment.pinned = True


def unpin(segment: Segment) -> None:
    """Undo `pin`, if it was done: memory must not be given back while a driver believes that it is locked."""
    if segment.pinned:
        runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        torch.cuda.check_error(runtime.cudaHostUnregister(_address(segment)))
        segment.pinned = False


def settle(devices: Iterable[torch.device]) -> None:
    """Wait until the copies that were begun from these devices are done."""
    for device in devices:
        torch.cuda.current_stream(device).synchronize()


def _address(segment: Segment) -> int:
    return torch.frombuffer(segment.view, dtype=torch.uint8).data_ptr()
