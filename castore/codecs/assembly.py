"""Payloads put together in memory that each thread keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from castore.codecs.base import Buffer
from castore.kernels import scratch


def assembled(parts: Sequence[Buffer]) -> memoryview:
    """The parts one after another, in this thread's buffer: valid until its next call.

    A fresh `bytes` would cost its pages, and the copying would keep the other threads waiting for the interpreter.
    """
    out = scratch.array("payload", sum(map(len, parts)), np.uint8)
    at = 0
    for part in parts:
        out[at : at + len(part)] = np.frombuffer(part, np.uint8)
        at += len(part)
    return out.data
