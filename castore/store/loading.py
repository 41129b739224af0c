"""Store's methods that give states back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore.store.door import Door

if TYPE_CHECKING:
    import torch

    from castore.operations.checkout import CheckoutReport


class Loading(Door):
    """States out."""

    def load(
        self,
        rev: str = "HEAD",
        only: str | Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Any:
        """The state of a commit, each chunk verified against its id; tensors on the CPU, or moved to `device`.

        only: dotted paths, whole ("model") or with wildcards ("model.*.bias"); what else is there is not read.
        A commit of files gives what each file holds by its name, or for one file just that (`weights_only` semantics;
        other files as bytes). Raises RevisionError, StateError, DroppedError (by which rule, and what to load instead),
        CorruptError (names the tensor), MissingError.
        """
        from castore.operations.load import load

        with self._restoring(rev, "load"):
            return load(self._repo, rev, only, device)

    def load_into(self, rev: str, state: Any) -> None:
        """Load a commit into an existing state, in place: tensors are overwritten, modules and optimizers restored.

        Raises StateError, before anything is written, that lists what is missing, unexpected or of another shape;
        CorruptError, after which tensors may hold part of the commit.
        """
        from castore.operations.load import load_into

        with self._restoring(rev, "load"):
            load_into(self._repo, rev, state)

    def checkout(
        self,
        rev: str,
        out: str | Path,
        only: str | Sequence[str] | None = None,
        format: str | None = None,
        force: bool = False,
    ) -> CheckoutReport:
        """Write a commit to files. format: "pt" or "safetensors", else committed files come back byte for byte.

        Raises TargetExistsError unless `force`, UnsafePathError, StorageError, StateError, RevisionError, CorruptError.
        """
        from castore.operations.checkout import checkout

        with self._restoring(rev, "checkout") as facts:
            report = checkout(self._repo, rev, Path(out), only, format, force)
            facts["bytes"] = report.raw_bytes
        return report
