"""SIGTERM in a training loop: noted, so that the loop can commit at the end of its step, where its state is whole."""

from __future__ import annotations

import signal
import threading
import warnings
from types import FrameType
from typing import Any


class Preemption:
    """Listens for SIGTERM in place of whoever did. In a thread other than the main one there is no way to: a warning
    says so."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._before = signal.signal(signal.SIGTERM, self._note)
        else:
            warnings.warn("castore: SIGTERM commits only if the Checkpointer is made in the main thread", stacklevel=4)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def close(self) -> bool:
        """Give the signal back to whoever had it; returns whether it came."""
        asked, self.asked = self.asked, False
        if self._installed and signal.getsignal(signal.SIGTERM) == self._note:
            signal.signal(signal.SIGTERM, self._before if self._before is not None else signal.SIG_DFL)
        self._installed = False
        return asked
