"""Hugging Face Accelerate: the state of everything that was prepared, straight into a commit and back.

    save_state(accelerator, store, step=step, metrics={"loss": loss})
    resumed = load_state(accelerator, store)  # None: a fresh start

No files are written on the way: the state dicts are Accelerate's own, gathered here as `Accelerator.save_state` does.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import torch
from accelerate.utils import broadcast_object_list, gather_object
from torch.utils.data import BatchSampler

from castore.errors import StateError, UsageError
from castore.integrations.commits import BranchCommits
from castore.integrations.fitting import Problems, compare_lists, compare_models, compare_optimizers
from castore.integrations.processes import on_first_process
from castore.objects.commit import Commit
from castore.state.files.names import safe_join
from castore.state.live.rng import rng_state, set_rng_state
from castore.store import Store

_SHARDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA")


@dataclass(frozen=True, slots=True)
class Resumed:
    """commit: what was loaded. process: what it holds of this process alone, its generators and its loaders."""

    commit: Commit
    process: Mapping[str, Any]

    def restore_rng(self) -> None:
        """Put the random number generators back once more: call it with the first batch after a resume mid-epoch.

        The loader's iterator drew from them when it was made; in the run that goes on here, it had been made before.
        """
        set_rng_state(self.process["rng"])


def save_state(
    accelerator: Any,
    store: Store | str | Path,
    branch: str = "main",
    *,
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    meta: Mapping[str, str] | None = None,
    message: str = "",
) -> Commit:
    """Commit models, optimizers, schedulers, loaders, scaler, registered objects and each process's generators.

    All processes must call; the first one commits. Save pre-hooks run, and the
    files that they write are kept. Raises UsageError for sharded models and amid an accumulation of gradients,
    StateError that names what cannot be kept, and as `Store.commit` does.
    """
    _check_whole(accelerator)
    if not accelerator.sync_gradients:
        raise UsageError(
            "gradients are half accumulated and would be lost: save when accelerator.sync_gradients is set"
        )
    weights = [accelerator.get_state_dict(model) for model in accelerator._models]
    files = _hook_files(accelerator, weights)
    processes = gather_object([{"rng": rng_state(), "loaders": [_loader_state(x) for x in accelerator._dataloaders]}])

    def commit() -> Commit:
        state = {
            "models": weights,
            "optimizers": [optimizer.state_dict() for optimizer in accelerator._optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in accelerator._schedulers],
            "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
            "objects": [custom.state_dict() for custom in accelerator._custom_objects],
            "processes": processes,
            "hook_files": files,
            "step": accelerator.step,
        }
        notes = {"framework": f"accelerate {accelerate.__version__}", **(meta or {})}
        commits = BranchCommits(store, branch)
        return commits.commit(state, step=step, metrics=metrics or {}, meta=notes, message=message)

    return on_first_process(commit)


def load_state(accelerator: Any, store: Store, branch: str = "main", *, rev: str | None = None) -> Resumed | None:
    """Restore the newest commit of a branch; None, and nothing changed, where there is no such branch.

    rev: load that commit instead. Call it on all processes, when all is prepared and registered as it was for saving.
    Raises StateError, before anything is changed, that lists all that is missing, left over or of another shape;
    RevisionError, CorruptError.
    """
    _check_whole(accelerator)
    if rev is None and branch not in store.branches():
        return None
    commit = store.show(rev or branch)
    state = store.load(commit.id)
    if not isinstance(state, dict) or not {"models", "optimizers", "processes", "hook_files"} <= set(state):
        raise StateError(f"commit {commit.id[:12]} was not made by castore.integrations.accelerate: name another one")
    models = _hooked_models(accelerator, state["hook_files"])
    _check_fits(accelerator, models, state, commit)
    for model, part in zip(models, state["models"], strict=True):
        model.load_state_dict(part)
    for name, targets in _targets(accelerator).items():
        for target, part in zip(targets, state[name], strict=True):
            target.load_state_dict(part)
    process = state["processes"][accelerator.process_index]
    for loader, part in zip(accelerator._dataloaders, process["loaders"], strict=True):
        _load_loader(loader, part)
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    accelerator.step = state["step"]
    resumed = Resumed(commit, process)
    resumed.restore_rng()
    return resumed


def _targets(accelerator: Any) -> dict[str, list[Any]]:
    return {
        "optimizers": accelerator._optimizers,
        "schedulers": accelerator._schedulers,
        "objects": accelerator._custom_objects,
    }


def _check_whole(accelerator: Any) -> None:
    kind = accelerator.distributed_type.value
    if kind in _SHARDED:
        raise UsageError(f"castore does not commit the states of {kind}, which are sharded: use accelerator.save_state")


def _check_fits(accelerator: Any, models: list[Any], state: Mapping[str, Any], commit: Commit) -> None:
    problems: Problems = []
    compare_lists("models", state["models"], models, problems)
    compare_models(state["models"], models, problems)
    for name, targets in _targets(accelerator).items():
        compare_lists(name, state[name], targets, problems)
    compare_optimizers(state["optimizers"], accelerator._optimizers, problems)
    here, there = accelerator.num_processes, len(state["processes"])
    if here != there:
        problems.append(f"processes: the commit has {there}, this run {here}")
    else:
        loaders = state["processes"][accelerator.process_index]["loaders"]
        compare_lists("dataloaders", loaders, accelerator._dataloaders, problems)
    if (state["scaler"] is None) != (accelerator.scaler is None):
        problems.append(f"scaler: only {'this run' if state['scaler'] is None else 'the commit'} has one")
    if problems:
        raise StateError(f"commit {commit.id[:12]} does not fit what was prepared: {'; '.join(problems)}")


def _loader_state(loader: Any) -> dict[str, Any]:
    """Which epoch a loader is in, the generators that it draws from, and where it is, if it knows."""
    return {
        "iteration": loader.iteration,
        "seeds": {name: getattr(sampler, name) for sampler, name in _seeds(loader)},
        "generators": {name: generator.get_state() for name, generator in _generators(loader)},
        "state": loader.state_dict() if loader.use_stateful_dataloader else None,
    }


def _load_loader(loader: Any, state: Mapping[str, Any]) -> None:
    loader.iteration = state["iteration"]
    for sampler, name in _seeds(loader):
        setattr(sampler, name, state["seeds"][name])
    for name, generator in _generators(loader):
        generator.set_state(state["generators"][name])
    place = state["state"]
    if place is not None and loader.use_stateful_dataloader:
        # After an epoch it has to begin anew, {}: told to go on from the end of one, it would draw other numbers.
        loader.load_state_dict({} if place.get("_iterator_finished") else place)


def _seeds(loader: Any) -> Iterator[tuple[Any, str]]:
    """What Accelerate's SeedableRandomSampler derives the order of an epoch from."""
    sampler = _sampler(loader)
    return ((sampler, name) for name in ("initial_seed", "epoch") if hasattr(sampler, name))


def _generators(loader: Any) -> Iterator[tuple[str, torch.Generator]]:
    owners = {"sampler": _sampler(loader), "loader": loader.base_dataloader, "dataset": loader.dataset}
    found = ((name, getattr(owner, "generator", None)) for name, owner in owners.items())
    return ((name, generator) for name, generator in found if isinstance(generator, torch.Generator))


def _sampler(loader: Any) -> Any:
    """What decides the order of samples: in the batch sampler, which with several processes lies in another one."""
    outer = loader.sampler if isinstance(loader.sampler, BatchSampler) else loader.batch_sampler
    return getattr(getattr(outer, "batch_sampler", outer), "sampler", None)


def _hook_files(accelerator: Any, weights: list[Any]) -> dict[str, bytes]:
    """Run the save pre-hooks, which may take weights away and write files in their stead: by relative name."""
    if not accelerator._save_model_state_pre_hook:
        return {}
    with _shared_directory(accelerator) as directory:
        for hook in accelerator._save_model_state_pre_hook.values():
            hook(accelerator._models, weights, str(directory))
        accelerator.wait_for_everyone()
        written = sorted(path for path in directory.rglob("*") if path.is_file())
        return {str(path.relative_to(directory)): path.read_bytes() for path in written}


def _hooked_models(accelerator: Any, files: Mapping[str, bytes]) -> list[Any]:
    """The models that the load pre-hooks leave to be loaded, unwrapped as they were saved."""
    models = list(accelerator._models)
    if accelerator._load_model_state_pre_hook:
        with _shared_directory(accelerator) as directory:
            if accelerator.is_main_process:
                _write_files(directory, files)
            accelerator.wait_for_everyone()
            for hook in accelerator._load_model_state_pre_hook.values():
                hook(models, str(directory))
    return [accelerator.unwrap_model(model) for model in models]


def _write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = safe_join(directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@contextlib.contextmanager
def _shared_directory(accelerator: Any) -> Iterator[Path]:
    """A temporary directory that all processes of this host see, for as long as the main one needs it."""
    with (
        tempfile.TemporaryDirectory(prefix="castore-")
        if accelerator.is_main_process
        else contextlib.nullcontext() as made
    ):
        shared = [made]
        broadcast_object_list(shared)
        yield Path(str(shared[0]))
        accelerator.wait_for_everyone()
