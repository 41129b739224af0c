"""The small tensors of a state, one after the other in a segment of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from castore.limits import PAGE_BYTES
from castore.state.live.sources import TensorSource
from castore.training import copying
from castore.training.arena import Segment
from castore.training.devices import Pin, device_of


class Packed:
    """Copies them. Whoever uses a copy must be done with it before the next one is taken."""

    def __init__(self, create: Callable[[int], Segment]) -> None:
        """create: makes a segment of so many bytes. Raises StorageError."""
        self._create = create
        self.segment: Segment | None = None

    def copy(self, sources: Sequence[TensorSource]) -> tuple[int, list[int]]:
        """Copy small tensors; returns the number of the segment, and the offset of each there.

        Those of a CUDA device are put together there and come in one copy, which is only begun: a copy of each would
        stop the loop hundreds of times. Raises StorageError.
        """
        segment = self._of_size(sum(source.nbytes for source in sources))
        offsets = [0] * len(sources)
        on_device: dict[torch.device, list[tuple[int, torch.Tensor]]] = {}
        end = 0
        for number, source in enumerate(sources):
            device = device_of(source)
            whole = copying.bytes_of(source) if device is not None else None
            if device is not None and whole is not None:
                on_device.setdefault(device, []).append((number, whole))
                continue
            offsets[number] = end
            end = _put(source, segment.view, end)
        for device, pieces in on_device.items():
            first = end
            for number, piece in pieces:
                offsets[number], end = end, end + piece.numel()
            self._pin(segment, device)
            out = torch.frombuffer(segment.view, dtype=torch.uint8, count=end - first, offset=first)
            out.copy_(torch.cat([piece for _, piece in pieces]), non_blocking=True)
        return segment.number, offsets

    def close(self) -> None:
        """Give the memory back."""
        if self.segment is not None:
            self.segment.close()
            self.segment = None

    def _of_size(self, nbytes: int) -> Segment:
        if self.segment is None or self.segment.nbytes < nbytes:
            self.close()
            self.segment = self._create(-(-(2 * nbytes + 1) // PAGE_BYTES) * PAGE_BYTES)  # with room to grow
        return self.segment

    @staticmethod
    def _pin(segment: Segment, device: torch.device) -> None:
        if not segment.pins:
            segment.pins.append(Pin(segment, 0, segment.nbytes, device))


def _put(source: TensorSource, view: memoryview, at: int) -> int:
    """Copy a tensor's bytes into memory from `at` on; returns where they end."""
    for first in range(0, source.numel, copying.SPAN_ELEMENTS):
        span = source.span(first, min(first + copying.SPAN_ELEMENTS, source.numel))
        view[at : at + len(span)] = span
        at += len(span)
    return at
