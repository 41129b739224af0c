"""A Trainer's checkpoints in a store: training goes on bit for bit, and all that the Trainer does with them works."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

import castore
from castore.integrations.transformers import CastoreCallback, checkout_latest
from castore.store import Store
from castore.testing.states import equal_states

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]
STEPS = 12


class Losses(TrainerCallback):
    """The losses of a run by step; dies before `until`, as a crash would."""

    def __init__(self, until: int | None) -> None:
        self.until = until
        self.losses: dict[int, float] = {}

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.until:
            raise Died

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses[state.global_step] = logs["loss"]


class Died(Exception):
    pass


def trainer(out: Path, *callbacks: TrainerCallback, seed: int = 7, **options: Any) -> Trainer:
    """GPT-2 in miniature, with its dropout, on a shuffled data set of random tokens."""
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=97, n_positions=16, n_embd=32, n_layer=2, n_head=2))
    tokens = torch.randint(97, (40, 16), generator=torch.Generator().manual_seed(0))
    data: Any = [{"input_ids": row, "labels": row} for row in tokens]
    defaults = {
        "save_steps": 4,
        "logging_steps": 1,
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "cosine",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "seed": 3,
        "logging_nan_inf_filter": False,
    }
    arguments = TrainingArguments(str(out), **{**defaults, **options})
    return Trainer(model, arguments, train_dataset=data, eval_dataset=data[:8], callbacks=list(callbacks))


def run(out: Path, *callbacks: TrainerCallback, until: int | None = None, resume: Any = None, **options: Any) -> Any:
    """Train, from a checkpoint or from the start, and return the trainer and the losses by step."""
    losses = Losses(until)
    made = trainer(out, losses, *callbacks, seed=7 if resume is None else 99, **options)
    if until is None:
        made.train(resume_from_checkpoint=resume)
    else:
        with pytest.raises(Died):
            made.train(resume_from_checkpoint=resume)
    return made, losses.losses


def digests(directory: Path) -> dict[str, str]:
    """Every file below a directory, by its contents."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_training_goes_on_bit_for_bit_after_a_crash_and_the_loss_of_the_directory(store: Store, tmp_path: Path) -> None:
    whole, losses = run(tmp_path / "whole")
    run(tmp_path / "run", CastoreCallback(store), until=10)  # within the second epoch, two steps behind a checkpoint
    shutil.rmtree(tmp_path / "run")
    resume = checkout_latest(store, tmp_path / "run")
    assert resume == str(tmp_path / "run" / "checkpoint-8")
    resumed, later = run(tmp_path / "run", CastoreCallback(store), resume=resume)
    assert later == {step: loss for step, loss in losses.items() if step > 8} and len(later) == 4
    assert equal_states(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert equal_states(whole.optimizer.state_dict(), resumed.optimizer.state_dict())
    assert equal_states(whole.lr_scheduler.state_dict(), resumed.lr_scheduler.state_dict())
    assert [commit.step for commit in store.log("main")] == [12, 8, 4]


def test_a_checkpoint_comes_back_byte_for_byte_with_its_step_and_what_was_logged(store: Store, tmp_path: Path) -> None:
    made, losses = run(tmp_path / "run", CastoreCallback(store), eval_strategy="steps", eval_steps=4)
    before = digests(tmp_path / "run" / "checkpoint-12")
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json"} <= set(before)
    assert checkout_latest(store, tmp_path / "elsewhere") == str(tmp_path / "elsewhere" / "checkpoint-12")
    assert digests(tmp_path / "elsewhere" / "checkpoint-12") == before
    commit = store.show("main")
    assert (commit.step, commit.message, commit.meta["epoch"]) == (12, "checkpoint-12", "2.4")
    assert commit.metrics["loss"] == losses[12]
    assert commit.metrics["eval_loss"] == made.state.log_history[-2]["eval_loss"]
    assert not {"step", "epoch"} & set(commit.metrics)


def test_the_next_checkpoint_is_stored_as_deltas_to_the_one_before_whatever_the_directories_are_called(
    store: Store, tmp_path: Path
) -> None:
    run(tmp_path / "run", CastoreCallback(store), learning_rate=1e-5)
    weights = (tmp_path / "run" / "checkpoint-4" / "model.safetensors").stat().st_size
    third, second, first = [commit.stats.total for commit in store.log("main")]
    assert first.delta_bytes == 0
    for later in (second, third):
        assert 0.3 * weights < later.delta_bytes < 0.7 * weights  # the weights, as deltas
        assert later.stored_bytes < first.stored_bytes - 0.25 * weights


def test_save_total_limit_works_on_directories_and_history_keeps_all(store: Store, tmp_path: Path) -> None:
    run(tmp_path / "run", CastoreCallback(store), save_total_limit=1)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-12"]
    assert [commit.step for commit in store.log("main")] == [12, 8, 4]
    resume = checkout_latest(store, tmp_path / "run", rev="main:step=4")
    assert resume is not None and Path(resume).name == "checkpoint-4"


class Score(TrainerCallback):
    """Evaluations get worse from step 4 on."""

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        metrics["eval_score"] = -float(state.global_step)


def test_the_best_model_is_loaded_at_the_end_of_a_resumed_run_whose_directories_were_gone(
    store: Store, tmp_path: Path
) -> None:
    best = {
        "eval_strategy": "steps",
        "eval_steps": 4,
        "load_best_model_at_end": True,
        "save_total_limit": 1,
        "metric_for_best_model": "eval_score",
        "greater_is_better": True,
    }
    whole, _ = run(tmp_path / "whole", Score(), **best)
    assert whole.state.best_global_step == 4
    run(tmp_path / "run", Score(), CastoreCallback(store), until=10, **best)
    shutil.rmtree(tmp_path / "run")
    resume = checkout_latest(store, tmp_path / "run")
    resumed, _ = run(tmp_path / "run", Score(), CastoreCallback(store), resume=resume, **best)
    assert resumed.state.best_model_checkpoint == str(tmp_path / "run" / "checkpoint-4")
    assert equal_states(dict(whole.model.state_dict()), dict(resumed.model.state_dict()))
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]
    assert store.show("main").meta["best-step"] == "4"


def test_a_branch_without_commits_is_a_fresh_start(store: Store, tmp_path: Path) -> None:
    assert checkout_latest(store, tmp_path / "run") is None
    with pytest.raises(castore.RevisionError):
        checkout_latest(store, tmp_path / "run", rev="main:step=4")
    assert not (tmp_path / "run").exists()


def test_a_half_written_directory_is_replaced_by_what_was_committed(store: Store, tmp_path: Path) -> None:
    run(tmp_path / "run", CastoreCallback(store), max_steps=4)
    directory = tmp_path / "run" / "checkpoint-4"
    before = digests(directory)
    (directory / "optimizer.pt").write_bytes(b"half")
    (directory / "stale.bin").write_bytes(b"old")
    checkout_latest(store, tmp_path / "run")
    assert digests(directory) == before
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["checkpoint-4"]


def test_another_commit_is_not_taken_for_a_checkpoint(store: Store, tmp_path: Path) -> None:
    store.commit({"w": torch.arange(3)}, step=1)
    with pytest.raises(castore.StateError, match="is no checkpoint of a Trainer"):
        checkout_latest(store, tmp_path / "run")


@pytest.mark.parametrize("name", ["pytorch_model_fsdp_0/__0_0.distcp", "global_step4/zero_pp_rank_0_optim_states.pt"])
def test_a_sharded_checkpoint_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    part = tmp_path / "checkpoint-4" / name
    part.parent.mkdir(parents=True)
    part.write_bytes(b"a part")
    state = TrainerState(global_step=4, is_world_process_zero=True)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(castore.UsageError, match="sharded checkpoint"):
        CastoreCallback(store).on_save(arguments, state, TrainerControl())
    assert store.branches() == {}


def test_a_process_that_is_not_the_main_one_commits_nothing(store: Store, tmp_path: Path) -> None:
    state = TrainerState(global_step=4, is_world_process_zero=False)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    CastoreCallback(store).on_save(arguments, state, TrainerControl())
    assert store.branches() == {}
