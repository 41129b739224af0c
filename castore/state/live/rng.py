"""The states of all random number generators of this process, as a plain state."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from castore.errors import StateError


def rng_state() -> dict[str, Any]:
    """The states of Python's `random`, NumPy's global generator, torch's CPU generator and that of each CUDA device.

    {"python": {"version", "words" (uint32 array), "gauss"}, "numpy": dict, "torch": uint8 tensor,
    "cuda": [uint8 tensor]}. "cuda" is empty in a process that has used no GPU yet: asking would start CUDA on it, and
    a generator that was never used is where its seed puts it.
    """
    version, words, gauss = random.getstate()
    return {
        "python": {"version": version, "words": np.array(words, dtype=np.uint32), "gauss": gauss},
        "numpy": dict(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if _uses_cuda() else [],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` returned, in place of the generators' present states.

    CUDA devices that this machine lacks are passed over, and ones that the state lacks are left as they are.
    Raises StateError for anything else; the generators are then as they were before.
    """
    if isinstance(state, Mapping) and state.get("cuda") and torch.cuda.is_available():
        torch.cuda.init()  # type: ignore[no-untyped-call]  # before it is asked what there is: else states wait for its start, and can't be taken back
    before = rng_state()
    try:
        _set(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        _set(before)
        raise StateError(f"not a random number generator state that fits this machine: {error!r}") from error


def _set(state: dict[str, Any]) -> None:
    python = state["python"]
    random.setstate((python["version"], tuple(int(word) for word in python["words"]), python["gauss"]))
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    if _uses_cuda():
        for device, words in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(words.cpu(), device)


def _uses_cuda() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
