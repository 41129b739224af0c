"""Making new memory ready beside the loop: pages that the system has given, locked where a device writes into them."""

from __future__ import annotations

import threading

import numpy as np
import torch

from castore.limits import PAGE_BYTES
from castore.training.arena import Segment
from castore.training.devices import Pin

_PIECE_BYTES = 4 << 20  # after which the thread looks whether it is to stop


class Readying:
    """At most one piece of memory at a time, by a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._failed: BaseException | None = None

    def begin(self, segment: Segment, first: int, last: int, device: torch.device | None) -> None:
        """Make bytes [first, last) of a segment ready, where it holds nothing yet. device: that will write there."""

        def work() -> None:
            try:
                if device is None:
                    self._touch(segment, first, last)
                else:
                    segment.pins.append(Pin(segment, first, last, device))
            except Exception as error:  # handed over: see `join`
                self._failed = error

        self._stopped.clear()
        self._thread = threading.Thread(target=work, name="castore-readying", daemon=True)
        self._thread.start()

    def _touch(self, segment: Segment, first: int, last: int) -> None:
        pages = np.frombuffer(segment.view, np.uint8, last - first, first)[::PAGE_BYTES]
        step = _PIECE_BYTES // PAGE_BYTES
        for start in range(0, len(pages), step):
            if self._stopped.is_set():
                return
            pages[start : start + step] = 0

    def join(self) -> None:
        """End what was begun, so that the memory can be written to: pages that are still to come, come with that.
        Raises what failed of it (StorageError), once."""
        if self._thread is not None:
            self._stopped.set()
            self._thread.join()
            self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
