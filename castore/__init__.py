"""castore: the history of a training run, kept the way Git keeps source code.

    store = castore.open("runs", create=True)
    commit = store.commit({"model": model.state_dict(), "step": step}, step=step, metrics={"loss": loss})
    state = store.load("main~2")

Importing this package loads neither torch nor numba: what needs them is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from castore._version import __version__
from castore.errors import (
    AmbiguousRevisionError,
    CastoreError,
    CorruptError,
    DroppedError,
    LockTimeoutError,
    MissingError,
    RefConflictError,
    RefExistsError,
    RefNameError,
    ReplayError,
    RevisionError,
    SignatureError,
    StateError,
    StorageError,
    StoreExistsError,
    StoreNotFoundError,
    TargetExistsError,
    UnsafePathError,
    UnsupportedStoreError,
    UsageError,
)

if TYPE_CHECKING:
    from castore.checkpointer import Checkpointer
    from castore.maintenance.verifying.verification import Replay
    from castore.objects.commit import Commit
    from castore.state.provenance import Run
    from castore.store import Store, discover, init, open
    from castore.training.policy import Policy
    from castore.training.resume import InexactResumeWarning
    from castore.training.sampler import ResumableSampler

_LAZY = {
    "Checkpointer": "castore.checkpointer",
    "Commit": "castore.objects.commit",
    "InexactResumeWarning": "castore.training.resume",
    "Policy": "castore.training.policy",
    "Replay": "castore.maintenance.verifying.verification",
    "ResumableSampler": "castore.training.sampler",
    "Run": "castore.state.provenance",
    "Store": "castore.store",
    "discover": "castore.store",
    "init": "castore.store",
    "open": "castore.store",
}

__all__ = [
    "AmbiguousRevisionError",
    "CastoreError",
    "Checkpointer",
    "Commit",
    "CorruptError",
    "DroppedError",
    "InexactResumeWarning",
    "LockTimeoutError",
    "MissingError",
    "Policy",
    "RefConflictError",
    "RefExistsError",
    "RefNameError",
    "Replay",
    "ReplayError",
    "ResumableSampler",
    "RevisionError",
    "Run",
    "SignatureError",
    "StateError",
    "StorageError",
    "Store",
    "StoreExistsError",
    "StoreNotFoundError",
    "TargetExistsError",
    "UnsafePathError",
    "UnsupportedStoreError",
    "UsageError",
    "__version__",
    "discover",
    "init",
    "open",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
