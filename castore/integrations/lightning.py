"""PyTorch Lightning: checkpoints are commits, and what ModelCheckpoint keeps on disk are pointers to them.

    trainer = Trainer(plugins=[CastoreCheckpointIO("runs")], callbacks=[ModelCheckpoint(...), rng_callback()])

Works with `lightning` and with `pytorch_lightning`, whichever is loaded, and with Fabric.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from castore import _fs
from castore.errors import UsageError
from castore.integrations.commits import BranchCommits
from castore.integrations.pointer import Pointer, read_pointer
from castore.objects.commit import RESUMED_FROM
from castore.state.live.rng import rng_state, set_rng_state
from castore.store import Store

if TYPE_CHECKING:
    from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO as _CheckpointIO
else:
    _CheckpointIO = object  # the loaded package's, when the first one is made

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")
_FABRICS = ("lightning.fabric", "lightning_fabric")
_HANDED_BACK = ".temp.ckpt"  # the weights, from a process that Lightning spawned to the one that spawned it


class CastoreCheckpointIO(_CheckpointIO):
    """A `CheckpointIO` that commits each checkpoint to a branch, and leaves a pointer to the commit at its path.

    store: an open store, or the path of one, which is made if it is missing. Only the main process saves. Checkpoints
    that torch.save wrote are read as Lightning reads them.
    """

    def __init__(self, store: Store | str | Path, branch: str = "main") -> None:
        self._commits = BranchCommits(store, branch)
        self._torch = _register(type(self)).TorchCheckpointIO()
        self._scored: tuple[int | None, dict[str, float]] = (None, {})
        self._resumed: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Processes that Lightning spawns open the store for themselves."""
        return type(self), (self._commits.store.path, self._commits.branch)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Commit a checkpoint, then write the pointer: it never names a commit that is not durable.

        Raises StateError that names the path of a value in the checkpoint that has no safe encoding, UsageError for a
        path that is not local, and as `Store.commit` does.
        """
        if storage_options is not None:
            raise UsageError("castore has no storage_options: save without them")
        where = _local(path)
        if where.name == _HANDED_BACK:
            self._torch.save_checkpoint(checkpoint, path)
            return
        if where.is_dir():
            raise UsageError(f"{where} is a directory, and a pointer is a file: save elsewhere, or remove it")
        step = checkpoint.get("global_step", checkpoint.get("step"))
        step = step if type(step) is int and step >= 0 else None
        commit = self._commits.commit(
            checkpoint, step=step, metrics=self._metrics(checkpoint, where, step), meta=self._meta(checkpoint),
            message=where.name,
        )  # fmt: skip
        self._resumed = None
        Pointer.to(self._commits.store, self._commits.branch, commit.id).write(where)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint that a pointer leads to, verified; of another file what Lightning would load.

        map_location: for a pointer a device, or None for the CPU. weights_only: for other files; a commit holds
        nothing that could run. Raises FileNotFoundError, CorruptError, MissingError, StoreNotFoundError, UsageError.
        """
        pointer = read_pointer(where := _local(path))
        if pointer is None:
            loaded: dict[str, Any] = self._torch.load_checkpoint(path, map_location, weights_only)
            return loaded
        self._resumed = pointer.commit
        return _load(pointer, where, self._commits.store, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the pointer. The commit stays in history, and what it takes on disk too: see `castore log`."""
        where = _local(path)
        if where.is_dir() and not where.is_symlink():
            self._torch.remove_checkpoint(path)
            return
        _fs.remove(where)

    def teardown(self) -> None:
        """Nothing to do: every commit was durable when `save_checkpoint` returned."""

    def _meta(self, checkpoint: dict[str, Any]) -> dict[str, str]:
        meta = {"framework": f"lightning {checkpoint.get('pytorch-lightning_version', '')}".strip()}
        if "epoch" in checkpoint:
            meta["epoch"] = str(checkpoint["epoch"])
        if self._resumed is not None:
            meta[RESUMED_FROM] = self._resumed
        return meta

    def _metrics(self, checkpoint: dict[str, Any], path: Path, step: int | None) -> dict[str, float]:
        """What ModelCheckpoint monitors, at this step. Its `current_score` may be that of an earlier one.

        So a score counts where it is noted for this very path, and for what is saved again at the same step (`last`).
        """
        metrics = dict(self._scored[1]) if step is not None and step == self._scored[0] else {}
        for state in checkpoint.get("callbacks", {}).values():
            best = state.get("best_k_models") if isinstance(state, Mapping) else None
            for saved, score in (best or {}).items():
                if Path(saved) == path and state.get("monitor"):
                    metrics[str(state["monitor"])] = float(score)
        self._scored = (step, metrics)
        return metrics


def load_from_checkpoint(
    model_class: Any, path: str | Path, *, store: Store | None = None, map_location: Any = None, **kwargs: Any
) -> Any:
    """`model_class.load_from_checkpoint(path, ...)`, which reads files itself, for a pointer or any checkpoint.

    store: the store, if it no longer lies where the pointer says. map_location: for a pointer a device. kwargs: what
    the method takes. The checkpoint is in memory twice while this runs. Raises as `load_checkpoint` does.
    """
    where = _local(path)
    pointer = read_pointer(where)
    if pointer is None:
        return model_class.load_from_checkpoint(path, map_location=map_location, **kwargs)
    file = io.BytesIO()
    torch.save(_load(pointer, where, store, map_location), file)
    file.seek(0)
    # Our own bytes of a moment ago, made of plain values: there is nothing in them to be careful with.
    return model_class.load_from_checkpoint(file, **{"weights_only": False, **kwargs})


def rng_callback() -> Any:
    """A Lightning `Callback` that puts the states of all random number generators into checkpoints, and back.

    Lightning keeps none, so that a resumed fit shuffles and drops out differently without it.
    """
    package = next((name for name in _PACKAGES if name in sys.modules), None) or _installed(_PACKAGES)
    base: Any = importlib.import_module(package).Callback

    class RngCallback(base):  # type: ignore[misc]
        _loaded: dict[str, Any] | None = None

        def state_dict(self) -> dict[str, Any]:
            made: dict[str, Any] = _arrays_as(torch.from_numpy, np.ndarray, rng_state())
            return made

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            arrays = {
                name: _arrays_as(torch.Tensor.numpy, torch.Tensor, state_dict[name]) for name in ("python", "numpy")
            }
            self._loaded = {**state_dict, **arrays}

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            """Before the fit's first iterator over the data is made, which draws from the generators."""
            if self._loaded is not None:
                set_rng_state(self._loaded)

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """Within an epoch the iterator had been made before the checkpoint was."""
            if self._loaded is not None and trainer.fit_loop.restarted_mid_epoch:
                set_rng_state(self._loaded)
            self._loaded = None

    return RngCallback()


def _arrays_as(convert: Callable[[Any], Any], kind: type, state: Any) -> Any:
    """A state with its arrays as tensors, or back: `weights_only` reads no arrays from a file."""
    if isinstance(state, dict):
        return {name: _arrays_as(convert, kind, item) for name, item in state.items()}
    return convert(state) if isinstance(state, kind) else state


def _load(pointer: Pointer, path: Path, near: Store | None, map_location: Any) -> dict[str, Any]:
    if not isinstance(map_location, str | torch.device | None):
        raise UsageError("map_location must be a device or None for a commit; move tensors after loading")
    store = pointer.opened(path, near)
    state: dict[str, Any] = store.load(pointer.commit, device=map_location)
    return state


def _register(ours: type) -> Any:
    """Let every loaded Lightning know `ours` as one of its CheckpointIOs; returns its plugins.

    There are two packages with a class of that name each, and a program may load either, or after us.
    """
    names = [name for name in _FABRICS if name in sys.modules] or [n for n in _FABRICS if _is_installed(n)]
    if not names:
        _installed(_FABRICS)
    plugins = [importlib.import_module(f"{name}.plugins") for name in names]
    for module in plugins:
        module.CheckpointIO.register(ours)
    return plugins[0]


def _is_installed(name: str) -> bool:
    top = name.partition(".")[0]
    return importlib.util.find_spec(top) is not None and importlib.util.find_spec(name) is not None


def _installed(names: tuple[str, ...]) -> str:
    for name in names:
        if _is_installed(name):
            return name
    raise UsageError("neither lightning nor pytorch_lightning is installed: pip install lightning")


def _local(path: str | Path) -> Path:
    text = os.fspath(path)
    if "://" in text and not text.startswith("file://"):
        raise UsageError(f"{text} is not a local path: give ModelCheckpoint a local dirpath, pointers are small")
    return Path(text.removeprefix("file://"))
