"""Payloads put together in memory that each thread keeps."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from castore.codecs.base import Buffer


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffer = np.empty(0, np.uint8)


_kept = _Kept()


def assembled(parts: Sequence[Buffer]) -> memoryview:
    """The parts one after another, in this thread's buffer: valid until its next call.

    A fresh `bytes` would cost its pages, and the copying would keep the other threads waiting for the interpreter.
    """
    size = sum(map(len, parts))
    if _kept.buffer.size < size:
        _kept.buffer = np.empty(size + size // 4, np.uint8)
    at = 0
    for part in parts:
        _kept.buffer[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return _kept.buffer[:size].data
