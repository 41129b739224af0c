"""A Hugging Face Trainer with a castore store: it trains, loses its output directory, and goes on from the store.

python docs/examples/transformers_trainer.py [DIRECTORY]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import castore
from castore.integrations.transformers import CastoreCallback, checkout_latest


def train(store: castore.Store, output_dir: Path, steps: int) -> None:
    """Train up to a step, from wherever the store is."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128, **sizes))
    tokens = torch.randint(128, (64, 16), generator=torch.Generator().manual_seed(0))
    arguments = TrainingArguments(
        str(output_dir), max_steps=steps, save_steps=5, logging_steps=5, save_total_limit=1, learning_rate=1e-4,
        lr_scheduler_type="constant", use_cpu=True, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=[{"input_ids": row, "labels": row} for row in tokens])

    trainer.add_callback(CastoreCallback(store))
    trainer.train(resume_from_checkpoint=checkout_latest(store, output_dir))


def main(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    with castore.open(directory, create=True) as store:
        train(store, directory / "output", 10)
        shutil.rmtree(directory / "output")
        train(store, directory / "output", 15)
        for commit in store.log("main"):
            raw, stored = commit.stats.total.raw_bytes, commit.stats.total.stored_bytes
            print(commit.id[:12], commit.message, f"loss {commit.metrics['loss']:.3f}, {raw} bytes, {stored} stored")
    left = [path.name for path in (directory / "output").iterdir()]
    print("on disk, besides the store:", *left)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".transformers_trainer"))
