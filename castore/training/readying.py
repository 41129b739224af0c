"""Making new memory ready beside the loop: pages that the system has given, locked where a device writes into them."""

from __future__ import annotations

import threading

import numpy as np
import torch

from castore.training import arena
from castore.training.arena import Segment
from castore.training.devices import Pin


class Readying:
    """At most one piece of memory at a time, by a thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._failed: BaseException | None = None

    def begin(self, segment: Segment, first: int, device: torch.device | None) -> None:
        """Make a segment ready from byte `first` on, where it holds nothing yet. device: that will write there."""

        def work() -> None:
            try:
                if device is None:
                    np.frombuffer(segment.view, np.uint8, offset=first)[:: arena.PAGE_BYTES] = 0
                else:
                    segment.pins.append(Pin(segment, first, segment.nbytes, device))
            except Exception as error:  # handed over: see `join`
                self._failed = error

        self._thread = threading.Thread(target=work, name="castore-readying", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for what was begun. Raises what failed of it (StorageError), once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
