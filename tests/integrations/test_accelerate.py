"""What Accelerate prepared, in a store: runs go on bit for bit, what does not fit is listed before it is touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType, skip_first_batches
from accelerate.state import AcceleratorState, GradientState
from torch.utils.data import DataLoader, TensorDataset

import castore
from castore.integrations.accelerate import load_state, save_state
from castore.store import Store
from castore.testing.states import equal_states

pytestmark = pytest.mark.filterwarnings("ignore:.set_vital. is deprecated")  # torchdata's own
EPOCHS, PER_EPOCH = 3, 5


@pytest.fixture(autouse=True)
def fresh(one_thread: None) -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@dataclass
class Mean:
    """Something of the user's own that is registered for checkpointing."""

    seen: list[float] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = state["seen"]


class Run:
    """A model with dropout on a shuffled loader, a scheduler, and a registered object."""

    def __init__(self, seed: int = 0, width: int = 16, objects: int = 1, **config: Any) -> None:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.manual_seed(seed)
        self.accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))
        layers = (torch.nn.Linear(8, width), torch.nn.Dropout(0.3), torch.nn.Linear(width, 1))
        model = torch.nn.Sequential(*layers)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.7)
        x = torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
        loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=True)
        prepared = self.accelerator.prepare(model, optimizer, scheduler, loader)
        self.model, self.optimizer, self.scheduler, self.loader = prepared
        self.means = [Mean() for _ in range(objects)]
        self.accelerator.register_for_checkpointing(*self.means)
        self.losses: dict[int, float] = {}

    def step(self, number: int, batch: Any) -> None:
        with self.accelerator.accumulate(self.model):
            loss = (self.model(batch[0]) - batch[1]).square().mean()
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        self.losses[number] = loss.item()
        self.means[0].seen.append(loss.item())

    def epochs(self, first: int, store: Store | None = None, last: int = EPOCHS) -> None:
        """Whole epochs, and a commit after each."""
        for epoch in range(first, last):
            for index, batch in enumerate(self.loader):
                self.step(epoch * PER_EPOCH + index, batch)
            if store is not None:
                done = (epoch + 1) * PER_EPOCH
                save_state(self.accelerator, store, step=done, metrics={"loss": self.losses[done - 1]})

    def end(self) -> dict[str, Any]:
        """All that can be compared when it is over."""
        return {
            "model": dict(self.model.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "seen": self.means[0].seen,
            "rng": torch.get_rng_state(),
        }


@pytest.mark.parametrize("config", [{}, {"use_seedable_sampler": True}, {"use_stateful_dataloader": True}], ids=str)
def test_a_run_resumed_after_an_epoch_ends_like_one_that_was_never_interrupted(store: Store, config: Any) -> None:
    whole = Run(**config)
    whole.epochs(0)
    Run(**config).epochs(0, store, last=1)
    rest = Run(seed=99, **config)
    resumed = load_state(rest.accelerator, store)
    assert resumed is not None and resumed.commit.step == PER_EPOCH
    rest.epochs(1)
    assert equal_states(whole.end(), rest.end())
    assert rest.losses == {step: loss for step, loss in whole.losses.items() if step >= PER_EPOCH}


@pytest.mark.parametrize("kind", ["use_stateful_dataloader", "use_seedable_sampler"])
def test_a_run_resumed_within_an_epoch_ends_like_one_that_was_never_interrupted(store: Store, kind: str) -> None:
    config = {kind: True, "use_seedable_sampler": True}
    whole = Run(**config)
    whole.epochs(0)

    cut = Run(**config)
    cut.epochs(0, last=1)
    for index, batch in enumerate(cut.loader):
        cut.step(PER_EPOCH + index, batch)
        if index == 1:
            save_state(cut.accelerator, store, step=PER_EPOCH + 2)
            break

    rest = Run(seed=99, **config)
    resumed = load_state(rest.accelerator, store)
    assert resumed is not None
    loader = rest.loader if kind == "use_stateful_dataloader" else skip_first_batches(rest.loader, 2)
    for index, batch in enumerate(loader):
        if index == 0:
            resumed.restore_rng()
        rest.step(PER_EPOCH + 2 + index, batch)
    rest.loader.set_epoch(2)
    rest.epochs(2)
    assert equal_states(whole.end(), rest.end())
    assert rest.losses == {step: loss for step, loss in whole.losses.items() if step >= PER_EPOCH + 2}


def test_a_commit_has_step_metrics_and_meta_and_the_state_can_be_read_without_accelerate(store: Store) -> None:
    run = Run()
    run.epochs(0, last=1)
    commit = save_state(run.accelerator, store, "exp", step=5, metrics={"loss": 0.5}, meta={"lr": "1e-2"}, message="m")
    assert (commit.step, dict(commit.metrics), commit.message) == (5, {"loss": 0.5}, "m")
    assert commit.meta["lr"] == "1e-2" and commit.meta["framework"].startswith("accelerate ")
    assert equal_states(store.load("exp", only="models")["models"][0], run.accelerator.get_state_dict(run.model))
    assert commit.id == store.resolve("exp")


def test_a_branch_that_is_not_there_is_a_fresh_start_and_a_revision_that_is_not_an_error(store: Store) -> None:
    run = Run()
    before = run.end()
    assert load_state(run.accelerator, store) is None
    with pytest.raises(castore.RevisionError):
        load_state(run.accelerator, store, rev="main:step=3")
    assert equal_states(before, run.end())


def test_an_older_commit_is_loaded_by_its_revision(store: Store) -> None:
    Run().epochs(0, store)
    run = Run(seed=99)
    resumed = load_state(run.accelerator, store, rev=f"main:step={PER_EPOCH}")
    assert resumed is not None and resumed.commit.step == PER_EPOCH and len(run.means[0].seen) == PER_EPOCH


def test_a_grad_scaler_is_restored(store: Store) -> None:
    run = Run()
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    save_state(run.accelerator, store)
    saved = run.accelerator.scaler.state_dict()
    other = Run()
    with pytest.raises(castore.StateError, match="scaler: only the commit has one"):
        load_state(other.accelerator, store)
    other.accelerator.scaler = torch.amp.GradScaler("cpu")
    load_state(other.accelerator, store)
    assert other.accelerator.scaler.state_dict() == saved


def test_all_that_does_not_fit_is_listed_and_nothing_is_changed(store: Store) -> None:
    save_state(Run().accelerator, store)
    other = Run(width=17, objects=2)
    extra = other.accelerator.prepare(torch.nn.Linear(2, 2))
    other.accelerator._models[0].register_buffer("mine", torch.zeros(1))
    before = other.end()
    with pytest.raises(castore.StateError) as caught:
        load_state(other.accelerator, store)
    message = str(caught.value)
    assert "models: the commit has 1, this run 2 (Sequential, Linear)" in message
    assert "models.0.0.weight: the commit has [16, 8], this run [17, 8]" in message
    assert "models.0.mine: only this run has it" in message
    assert "objects: the commit has 1, this run 2 (Mean, Mean)" in message
    assert "\n" not in message
    assert equal_states(before, other.end()) and extra is not None


def test_an_optimizer_with_other_groups_and_a_commit_of_something_else_are_refused(store: Store) -> None:
    run = Run()
    save_state(run.accelerator, store)
    run.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    with pytest.raises(castore.StateError, match=r"optimizers\.0: the commit has groups of \[4\] parameters, this run"):
        load_state(run.accelerator, store)
    store.commit({"w": torch.zeros(2)}, branch="other")
    with pytest.raises(castore.StateError, match=r"was not made by castore\.integrations\.accelerate"):
        load_state(run.accelerator, store, "other")


def test_a_registered_object_that_cannot_be_kept_is_refused_by_its_path(store: Store) -> None:
    run = Run()
    run.means[0].seen.append(run)  # type: ignore[arg-type]
    with pytest.raises(castore.StateError, match=r"objects\.0\.seen\.0: cannot store"):
        save_state(run.accelerator, store)
    assert store.branches() == {}


def test_half_accumulated_gradients_and_sharded_models_are_refused(store: Store, monkeypatch: Any) -> None:
    run = Run()
    run.accelerator.gradient_accumulation_steps = 2
    batch = next(iter(run.loader))
    run.step(0, batch)
    with pytest.raises(castore.UsageError, match="half accumulated"):
        save_state(run.accelerator, store)
    run.step(1, batch)
    save_state(run.accelerator, store)
    # What Accelerate itself says of a job that was launched with FSDP.
    monkeypatch.setattr(run.accelerator.state, "distributed_type", DistributedType.FSDP)
    for call in (save_state, load_state):
        with pytest.raises(castore.UsageError, match="of FSDP, which are sharded"):
            call(run.accelerator, store)


def test_save_and_load_hooks_run_and_their_files_are_kept(store: Store) -> None:
    def save(models: list[Any], weights: list[Any], directory: str) -> None:
        (Path(directory) / "adapter").mkdir()
        torch.save(weights.pop(), Path(directory) / "adapter" / "weights.pt")

    def load(models: list[Any], directory: str) -> None:
        models.pop().load_state_dict(torch.load(Path(directory) / "adapter" / "weights.pt"))

    run, other = Run(), Run(seed=99)
    run.accelerator.register_save_state_pre_hook(save)
    save_state(run.accelerator, store)
    with pytest.raises(castore.StateError, match="models: the commit has 0, this run 1"):
        load_state(other.accelerator, store)
    other.accelerator.register_load_state_pre_hook(load)
    load_state(other.accelerator, store)
    assert equal_states(dict(run.model.state_dict()), dict(other.model.state_dict()))


def test_two_processes_make_one_commit_and_get_back_each_its_own_generators(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    job = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(tmp_path)]
    ranks = [{**os.environ, **job, "RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    processes = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for env in ranks]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    with castore.open(tmp_path / "store") as store:
        assert [commit.step for commit in store.log("main")] == [4]
        first, second = store.load("main", only="processes")["processes"]
        assert not first["rng"]["torch"].equal(second["rng"]["torch"])
        with pytest.raises(castore.StateError, match="processes: the commit has 2, this run 1"):
            load_state(Run(objects=0).accelerator, store)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "done-0", "done-1"}
