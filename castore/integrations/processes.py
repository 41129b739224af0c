"""Work that only the first process of a job does, and whose outcome all of them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from castore.errors import CastoreError

_Result = TypeVar("_Result")


def is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def wait_for_all() -> None:
    """Return when every process of the job has called this."""
    if is_distributed():
        torch.distributed.barrier()


def on_first_process(work: Callable[[], _Result]) -> _Result:
    """What `work` returned on the first process, on all of them; what it raised, too, so that none waits for ever."""
    if not is_distributed():
        return work()
    outcome: list[_Result | CastoreError | None] = [None]
    if torch.distributed.get_rank() == 0:
        try:
            outcome = [work()]
        except CastoreError as error:
            outcome = [error]
    torch.distributed.broadcast_object_list(outcome)
    found = outcome[0]
    if isinstance(found, CastoreError):
        raise found
    return found  # type: ignore[return-value]
