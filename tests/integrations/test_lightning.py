"""Lightning checkpoints in a store: fits go on bit for bit, and ModelCheckpoint works as it does with files."""

from __future__ import annotations

import contextlib
import fractions
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from torch.utils.data import DataLoader, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

import castore
from castore.integrations.lightning import CastoreCheckpointIO, load_from_checkpoint, rng_callback
from castore.store import Store
from castore.testing.states import equal_states

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Net(pl.LightningModule):
    """Noisy on purpose: dropout and a shuffled loader draw random numbers at every step."""

    def __init__(self, width: int = 16, loader: type[DataLoader[Any]] = DataLoader) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["loader"])
        self.loader = loader
        self.losses: dict[int, float] = {}
        layers = (torch.nn.Linear(8, width), torch.nn.Dropout(0.3), torch.nn.ReLU(), torch.nn.Linear(width, 1))
        self.layers = torch.nn.Sequential(*layers)

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = (self.layers(batch[0]) - batch[1]).square().mean()
        self.losses[self.global_step] = loss.item()
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        # Better, worse, better ...: so that the newest checkpoint is not always the best one.
        self.log("val_loss", torch.tensor([3.0, 1.0, 4.0, 2.0, 0.5])[self.current_epoch])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]

    def _data(self) -> TensorDataset:
        x = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
        return TensorDataset(x, x.sum(1, keepdim=True))

    def train_dataloader(self) -> Any:
        return self.loader(self._data(), batch_size=8, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self._data(), batch_size=32)


class Died(Exception):
    pass


class Dies(Callback):
    """Ends a fit within an epoch, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        if trainer.global_step == self.step:
            raise Died


@pytest.fixture(autouse=True)
def quiet(one_thread: None) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def fit(
    io: Any,
    directory: Path,
    epochs: int,
    *callbacks: Callback,
    resume: Any = None,
    loader: Any = DataLoader,
    **options: Any,
) -> tuple[Net, ModelCheckpoint, pl.Trainer]:
    """A fit that is seeded with 7; or that resumes, seeded with something else."""
    pl.seed_everything(7 if resume is None else 1234)
    options = {"monitor": "val_loss", "save_top_k": 2, "save_last": True, "filename": "{epoch}", **options}
    checkpoint = ModelCheckpoint(directory, **options)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
        plugins=[io], callbacks=[checkpoint, rng_callback(), *callbacks], num_sanity_val_steps=0,
        default_root_dir=directory,
    )  # fmt: skip
    net = Net(loader=loader)
    with contextlib.suppress(Died):
        trainer.fit(net, ckpt_path=resume)
    return net, checkpoint, trainer


def assert_same_end(a: tuple[Net, Any, pl.Trainer], b: tuple[Net, Any, pl.Trainer], from_step: int) -> None:
    """Two fits ended alike, and `b`, which began at `from_step`, had the same losses on the way."""
    assert equal_states(a[0].state_dict(), b[0].state_dict())
    assert equal_states(a[2].optimizers[0].state_dict(), b[2].optimizers[0].state_dict())
    assert equal_states(
        a[2].lr_scheduler_configs[0].scheduler.state_dict(), b[2].lr_scheduler_configs[0].scheduler.state_dict()
    )
    assert b[0].losses == {step: loss for step, loss in a[0].losses.items() if step >= from_step}
    assert b[0].losses


@pytest.mark.parametrize("save_last", [True, "link"])
def test_a_resumed_fit_ends_bit_for_bit_like_one_that_was_never_interrupted(
    store: Store, tmp_path: Path, save_last: Any
) -> None:
    whole = fit(TorchCheckpointIO(), tmp_path / "whole", 4)
    fit(CastoreCheckpointIO(store), tmp_path / "run", 2, save_last=save_last)
    resumed = fit(CastoreCheckpointIO(store), tmp_path / "run", 4, resume="last", save_last=save_last)
    assert_same_end(whole, resumed, from_step=8)


def test_a_fit_that_died_within_an_epoch_goes_on_exactly_with_a_loader_that_keeps_its_place(
    store: Store, tmp_path: Path
) -> None:
    often = {"every_n_train_steps": 3, "monitor": None, "save_top_k": -1, "filename": "{step}"}
    loader = StatefulDataLoader
    whole = fit(TorchCheckpointIO(), tmp_path / "whole", 4, loader=loader, **often)
    fit(CastoreCheckpointIO(store), tmp_path / "run", 4, Dies(7), loader=loader, **often)
    resumed = fit(CastoreCheckpointIO(store), tmp_path / "run", 4, resume="last", loader=loader, **often)
    assert_same_end(whole, resumed, from_step=6)


def test_a_fit_resumes_from_a_commit_that_was_checked_out_to_a_file(store: Store, tmp_path: Path) -> None:
    whole = fit(TorchCheckpointIO(), tmp_path / "whole", 4)
    fit(CastoreCheckpointIO(store), tmp_path / "run", 2)
    store.checkout("main", tmp_path / "plain.ckpt", format="pt")
    resumed = fit(TorchCheckpointIO(), tmp_path / "other", 4, resume=tmp_path / "plain.ckpt")
    assert_same_end(whole, resumed, from_step=8)


def test_lightnings_asynchronous_plugin_may_be_around_it(store: Store, tmp_path: Path) -> None:
    whole = fit(TorchCheckpointIO(), tmp_path / "whole", 4)
    fit(AsyncCheckpointIO(CastoreCheckpointIO(store)), tmp_path / "run", 2)
    resumed = fit(AsyncCheckpointIO(CastoreCheckpointIO(store)), tmp_path / "run", 4, resume="last")
    assert_same_end(whole, resumed, from_step=8)


def test_what_lies_on_disk_are_pointers_of_the_best_two_and_the_last(store: Store, tmp_path: Path) -> None:
    _, checkpoint, _ = fit(CastoreCheckpointIO(store), tmp_path / "run", 4)
    files = {path.name: json.loads(path.read_text()) for path in (tmp_path / "run").iterdir()}
    assert set(files) == {"epoch=1.ckpt", "epoch=3.ckpt", "last.ckpt"}
    assert Path(checkpoint.best_model_path).name == "epoch=1.ckpt"
    assert {table["store"] for table in files.values()} == {str(store.path)}
    assert files["last.ckpt"]["commit"] == store.resolve("main")
    assert store.load(files["epoch=1.ckpt"]["commit"])["epoch"] == 1
    # The first epoch's pointer is gone; its commit is not. The third was not among the best two: nothing was saved.
    assert {commit.meta["epoch"] for commit in store.log("main")} == {"0", "1", "3"}


def test_commits_carry_step_epoch_and_the_metric_of_that_very_checkpoint(store: Store, tmp_path: Path) -> None:
    fit(CastoreCheckpointIO(store), tmp_path / "run", 4, save_top_k=1)
    seen = {(commit.step, commit.meta["epoch"], commit.metrics.get("val_loss")) for commit in store.log("main")}
    assert seen == {(4, "0", 3.0), (8, "1", 1.0)}  # epochs 2 and 3 were no better
    assert {commit.message for commit in store.log("main")} == {"epoch=0.ckpt", "epoch=1.ckpt", "last.ckpt"}


def test_a_resumed_fit_says_where_it_resumed_from(store: Store, tmp_path: Path) -> None:
    fit(CastoreCheckpointIO(store), tmp_path / "run", 1)
    end = store.resolve("main")
    fit(CastoreCheckpointIO(store), tmp_path / "run", 2, resume="last")
    notes = [commit.meta.get("resumed-from") for commit in store.log("main") if commit.step == 8]
    assert notes == [None, end]


def test_a_model_is_loaded_from_a_pointer_from_a_link_to_one_and_from_a_plain_checkpoint(
    store: Store, tmp_path: Path
) -> None:
    net, checkpoint, trainer = fit(CastoreCheckpointIO(store), tmp_path / "run", 2, save_last="link")
    assert Path(checkpoint.last_model_path).is_symlink()
    plain = tmp_path / "plain.ckpt"
    TorchCheckpointIO().save_checkpoint(trainer._checkpoint_connector.dump_checkpoint(), plain)
    for path in (checkpoint.last_model_path, checkpoint.best_model_path, plain):
        loaded = load_from_checkpoint(Net, path, **({"weights_only": False} if path == plain else {}))
        assert equal_states(loaded.state_dict(), net.state_dict())
        assert loaded.hparams.width == 16
    trainer.validate(net, ckpt_path="best", verbose=False)


def test_a_plain_checkpoint_is_read_with_lightnings_own_weights_only(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "plain.ckpt"
    torch.save({"state_dict": {}, "hook": fractions.Fraction(1, 2)}, path)
    io = CastoreCheckpointIO(store)
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        io.load_checkpoint(path, weights_only=True)
    assert set(io.load_checkpoint(path, weights_only=False)) == {"state_dict", "hook"}
    with pytest.raises(FileNotFoundError):
        io.load_checkpoint(tmp_path / "none.ckpt")


def test_removing_a_checkpoint_deletes_the_pointer_and_keeps_the_commit(store: Store, tmp_path: Path) -> None:
    io = CastoreCheckpointIO(store)
    state = {"state_dict": {"w": torch.arange(3.0)}, "global_step": 1}
    io.save_checkpoint(state, tmp_path / "deep" / "a.ckpt")
    io.remove_checkpoint(tmp_path / "deep" / "a.ckpt")
    io.remove_checkpoint(tmp_path / "deep" / "a.ckpt")
    assert not (tmp_path / "deep" / "a.ckpt").exists()
    assert equal_states(store.load("main"), state)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"format": "castore-pointer-1"}', b"\xff" * 9, b"[" * 70000])
def test_a_damaged_pointer_is_one_clear_line(store: Store, tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "epoch=1.ckpt"
    path.write_bytes(damage)
    with pytest.raises(castore.CorruptError, match="neither a checkpoint nor a whole pointer") as caught:
        CastoreCheckpointIO(store).load_checkpoint(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_pointer_finds_its_store_by_what_it_is_not_by_where_it_lies(tmp_path: Path) -> None:
    state = {"state_dict": {"w": torch.arange(3.0)}, "global_step": 1}
    path = tmp_path / "a.ckpt"
    CastoreCheckpointIO(tmp_path / "one").save_checkpoint(state, path)
    other = CastoreCheckpointIO(tmp_path / "two")
    assert equal_states(other.load_checkpoint(path), state)  # from the place that is noted
    (tmp_path / "one").rename(tmp_path / "moved")
    assert equal_states(CastoreCheckpointIO(tmp_path / "moved").load_checkpoint(path), state)
    with pytest.raises(castore.StoreNotFoundError, match="is not there"):
        other.load_checkpoint(path)
    castore.init(tmp_path / "one").close()
    with pytest.raises(castore.StoreNotFoundError, match="is another store"):
        other.load_checkpoint(path)


def test_a_pointer_to_a_commit_that_is_gone_says_so(store: Store, tmp_path: Path) -> None:
    io = CastoreCheckpointIO(store)
    io.save_checkpoint({"state_dict": {}}, tmp_path / "a.ckpt")
    table = json.loads((tmp_path / "a.ckpt").read_text())
    (tmp_path / "a.ckpt").write_text(json.dumps({**table, "commit": "0" * len(table["commit"])}))
    with pytest.raises(castore.MissingError, match="points to commit 000000000000"):
        io.load_checkpoint(tmp_path / "a.ckpt")


def test_what_cannot_be_kept_is_refused_by_its_path_and_leaves_no_pointer(store: Store, tmp_path: Path) -> None:
    class Holds(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"decoder": json.JSONDecoder()}

    with pytest.raises(castore.StateError, match=r"callbacks\..*Holds.*\.decoder: cannot store a json.decoder"):
        fit(CastoreCheckpointIO(store), tmp_path / "run", 1, Holds())
    assert list((tmp_path / "run").glob("*")) == [] and store.branches() == {}


def test_sharded_tensors_remote_paths_and_directories_are_refused(store: Store, tmp_path: Path) -> None:
    from torch.distributed.tensor import DTensor, distribute_tensor, init_device_mesh

    io = CastoreCheckpointIO(store)
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        sharded = distribute_tensor(torch.arange(4.0), init_device_mesh("cpu", (1,)))
        assert isinstance(sharded, DTensor)
        with pytest.raises(castore.StateError, match=r"state_dict\.w: cannot store .*DTensor"):
            io.save_checkpoint({"state_dict": {"w": sharded}}, tmp_path / "a.ckpt")
    finally:
        torch.distributed.destroy_process_group()
    with pytest.raises(castore.UsageError, match="not a local path"):
        io.save_checkpoint({"state_dict": {}}, "s3://bucket/a.ckpt")
    with pytest.raises(castore.UsageError, match="is a directory"):
        io.save_checkpoint({"state_dict": {}}, tmp_path)
    assert store.branches() == {}


def test_weights_that_a_spawned_process_hands_back_are_no_commit(store: Store, tmp_path: Path) -> None:
    io = pickle.loads(pickle.dumps(CastoreCheckpointIO(store, "spawned")))  # as it gets there
    weights = {"w": torch.arange(3.0)}
    io.save_checkpoint(weights, tmp_path / ".temp.ckpt")
    assert equal_states(io.load_checkpoint(tmp_path / ".temp.ckpt"), weights)
    assert store.branches() == {}
    io.save_checkpoint({"state_dict": weights}, tmp_path / "a.ckpt")
    assert set(store.branches()) == {"spawned"}


def test_fabric_saves_and_loads_through_it_and_so_does_the_other_package(store: Store, tmp_path: Path) -> None:
    import lightning_fabric

    for kind in (Fabric, lightning_fabric.Fabric):
        fabric = kind(accelerator="cpu", devices=1, plugins=[CastoreCheckpointIO(store)])
        model = torch.nn.Linear(3, 2)
        saved = {name: value.clone() for name, value in model.state_dict().items()}
        fabric.save(tmp_path / "f.ckpt", {"model": model, "step": 3})
        torch.nn.init.zeros_(model.weight)
        left = fabric.load(tmp_path / "f.ckpt", {"model": model})
        assert equal_states(dict(model.state_dict()), saved) and left == {"step": 3}
        assert store.show("main").step == 3
