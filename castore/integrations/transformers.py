"""Hugging Face Transformers: every checkpoint directory of a Trainer is a commit, and comes back from it.

    trainer.add_callback(CastoreCallback(store))
    trainer.train(resume_from_checkpoint=checkout_latest(store, trainer.args.output_dir))

The Trainer reads and writes a checkpoint through a dozen private methods, all of which want a directory, and so does
loading the best model. So the directory stays what it is, and the store gets its files: byte for byte, the tensors in
them as deltas to those of the checkpoint before. Where bytes written twice matter, let `output_dir` be in memory
(/dev/shm): what is durable is the commit, and `save_total_limit=1` is enough.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import transformers
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from castore.errors import StateError, UsageError
from castore.integrations.commits import BranchCommits
from castore.integrations.processes import on_first_process, wait_for_all
from castore.objects.commit import Commit
from castore.store import Store

_SHARDS = ("**/*.distcp", "**/*_optim_states.pt", "rank*-of-*", "*.pt_[0-9]*")  # DCP, DeepSpeed, XLA, SageMaker


class CastoreCallback(TrainerCallback):
    """Commits each checkpoint that the Trainer saved, with its step and what was logged at that step.

    store: an open store, or the path of one, which is made if it is missing. Only the main process commits.
    `save_total_limit`, `load_best_model_at_end` and the rest work on the directories, as ever; commits stay.
    """

    def __init__(self, store: Store | str | Path, branch: str = "main") -> None:
        self._commits = BranchCommits(store, branch)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Commit the directory of this step. Raises UsageError for sharded checkpoints, and as `commit_files` does."""
        if state.is_hyper_param_search:
            raise UsageError("castore does not commit the runs of a hyperparameter search: remove the callback")
        directory = Path(args.output_dir or ".") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
        wait_for_all()  # each process writes the state of its own generators into the directory
        on_first_process(lambda: self._commit(directory, state) if state.is_world_process_zero else None)

    def _commit(self, directory: Path, state: TrainerState) -> None:
        shard = next((path for pattern in _SHARDS for path in directory.glob(pattern)), None)
        if shard is not None:
            raise UsageError(
                f"castore does not commit sharded checkpoints yet, and {shard} is a part of one: save full ones"
            )
        self._commits.commit_files(
            directory, step=state.global_step, metrics=_logged(state), meta=_meta(state), message=directory.name
        )


def checkout_latest(
    store: Store, output_dir: str | Path | None, branch: str = "main", rev: str | None = None
) -> str | None:
    """Put the newest checkpoint of a branch back, for `resume_from_checkpoint`; None where there is no such branch.

    rev: put that commit back instead. A directory of its step is replaced: what the commit holds is whole. The best
    checkpoint that it knows comes back with it, if its directory is gone and its commit is an ancestor. With several
    processes the first one does so, and all must call.
    Raises StateError for a commit that is none of a Trainer's checkpoints, RevisionError, CorruptError, StorageError.
    """
    out = Path(output_dir or ".")
    return on_first_process(lambda: _checkout(store, out, branch, rev))


def _checkout(store: Store, out: Path, branch: str, rev: str | None) -> str | None:
    if rev is None and branch not in store.branches():
        return None
    commit = store.show(rev or branch)
    if commit.step is None or TRAINER_STATE_NAME not in {entry.path for entry in store.entries(commit.id)}:
        raise StateError(f"commit {commit.id[:12]} is no checkpoint of a Trainer: name another branch or revision")
    latest = _put_back(store, commit, out)
    best = json.loads((latest / TRAINER_STATE_NAME).read_bytes()).get("best_model_checkpoint")
    if best is not None and Path(best).parent == out and not Path(best).exists():
        found = next((one for one in store.log(commit.id) if one.message == Path(best).name), None)
        if found is not None:
            _put_back(store, found, out)
            os.utime(latest)  # the Trainer takes the one that changed last for the newest
    return str(latest)


def _put_back(store: Store, commit: Commit, out: Path) -> Path:
    """The directory of a commit, whole before it gets its name."""
    directory = out / f"{PREFIX_CHECKPOINT_DIR}-{commit.step}"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".castore-", dir=out) as beside:
        store.checkout(commit.id, Path(beside) / "new")
        if directory.exists():
            directory.rename(Path(beside) / "old")
        (Path(beside) / "new").rename(directory)
    return directory


def _logged(state: TrainerState) -> dict[str, float]:
    """What was logged at this very step: numbers of training and of evaluation by their names."""
    metrics: dict[str, float] = {}
    for entry in state.log_history:
        if entry.get("step") == state.global_step:
            metrics.update({name: float(value) for name, value in entry.items() if isinstance(value, int | float)})
    return {name: value for name, value in metrics.items() if name not in ("step", "epoch")}


def _meta(state: TrainerState) -> dict[str, str]:
    meta = {"framework": f"transformers {transformers.__version__}"}
    if state.epoch is not None:
        meta["epoch"] = f"{state.epoch:g}"
    if state.best_global_step:
        meta["best-step"] = str(state.best_global_step)
    return meta
