"""PyTorch Lightning with a castore store: a fit, and a second one that goes on where the first ended.

python docs/examples/lightning_fit.py [DIRECTORY]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

import castore
from castore.integrations.lightning import CastoreCheckpointIO, load_from_checkpoint, rng_callback


class Net(pl.LightningModule):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        loss = (self.layers(batch[0]) - batch[1]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def fit(store: castore.Store, directory: Path, epochs: int, resume: str | None) -> str:
    """Fit up to an epoch, and return where the best checkpoint is."""
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=32, shuffle=True)
    best = ModelCheckpoint(directory / "checkpoints", monitor="loss", save_top_k=2, save_last="link")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_epochs=epochs, plugins=[CastoreCheckpointIO(store)], callbacks=[best, rng_callback()], **quiet
    )
    trainer.fit(Net(), data, ckpt_path=resume)
    return best.best_model_path


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    with castore.open(directory, create=True) as store:
        fit(store, directory, 3, None)
        path = fit(store, directory, 5, "last")
        for commit in store.log("main"):
            print(commit.id[:12], commit.step, commit.message, dict(commit.metrics))
    model = load_from_checkpoint(Net, path)
    print(f"{path} is a pointer of {Path(path).stat().st_size} bytes to a model of width {model.hparams.width}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".lightning_fit"))
