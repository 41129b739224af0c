"""SIGTERM in a training loop: noted, so that the loop can commit at the end of its step, where its state is whole."""

from __future__ import annotations

import signal
import threading
import warnings
from types import FrameType
from typing import Any

TERMINATED = 128 + signal.SIGTERM  # the exit code, as shells have it


class Preemption:
    """Listens for SIGTERM in place of whoever did, when it is told to. In a thread other than the main one there is no
    way to: a warning says so."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._heeding = False
        self._installed = False

    def heed(self, wanted: bool) -> None:
        """Listen from now on, or no longer. A signal that came is not forgotten."""
        if wanted == self._heeding or (not wanted and self.asked):
            return
        if not wanted:
            self.close()
        elif threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._installed = True
        else:
            warnings.warn("castore: SIGTERM commits only if the Checkpointer is made in the main thread", stacklevel=3)
        self._heeding = wanted

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def close(self) -> bool:
        """Give the signal back to whoever had it; returns whether it came."""
        asked, self.asked = self.asked, False
        if self._installed and signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)
        self._installed = self._heeding = False
        return asked
