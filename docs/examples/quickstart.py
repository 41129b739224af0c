"""castore at work: train a small transformer, commit as it learns, go back, branch off, clean up.

    python docs/examples/quickstart.py [DIRECTORY]

The store is made in DIRECTORY (.quickstart unless you name another), anew each time. The text that the model learns
ships with Python: the help topics of pydoc.
"""

from __future__ import annotations

import copy
import pydoc_data.topics
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional

import castore

STEPS, EVERY, KEPT_STEP = 120, 10, 60
CONTEXT, BATCH = 64, 12
WIDTH, HEADS, LAYERS = 192, 6, 4

console = Console(highlight=False)


class CharTransformer(nn.Module):
    """Predicts the next character from up to CONTEXT before it."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.out = nn.Linear(WIDTH, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(CONTEXT), persistent=False)

    def forward(self, text: Tensor) -> Tensor:
        """(batch, CONTEXT) character numbers -> (batch, CONTEXT, characters) logits."""
        hidden = self.characters(text) + self.positions(torch.arange(text.shape[1]))
        return self.out(self.layers(hidden, mask=self.mask, is_causal=True))


class Run:
    """A model in training, and what its state is."""

    def __init__(self, learning_rate: float) -> None:
        text = "\n".join(pydoc_data.topics.topics.values())
        alphabet = {character: number for number, character in enumerate(sorted(set(text)))}
        self.text = torch.tensor([alphabet[character] for character in text])
        self.model = CharTransformer(len(alphabet))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate)

    def step(self) -> float:
        """One step of training; returns the loss in nats per character."""
        starts = torch.randint(len(self.text) - CONTEXT - 1, (BATCH, 1))
        batch = self.text[starts + torch.arange(CONTEXT + 1)]
        logits = self.model(batch[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def state(self) -> dict[str, Any]:
        """All that training goes on from."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])


def train(run: Run, store: castore.Store, branch: str, first: int, last: int, message: str) -> dict[str, Any] | None:
    """Train and commit every few steps. Returns a copy of the state at KEPT_STEP, if it came by."""
    kept = None
    for step in track(range(first, last + 1), f"Training {branch}", console=console):
        loss = run.step()
        if step % EVERY == 0:
            store.commit(run.state(), branch=branch, step=step, metrics={"loss": loss}, message=message)
        if step == KEPT_STEP and branch == "main":
            kept = copy.deepcopy(run.state())
    return kept


def count_identical(one: Any, other: Any) -> int:
    """How many tensors two states have in common, or AssertionError where a single bit or type differs."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        return sum(count_identical(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        return sum(map(count_identical, one, other))
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert one.reshape(-1).view(torch.uint8).equal(other.reshape(-1).view(torch.uint8))
        return 1
    assert one == other
    return 0


def title(text: str) -> None:
    """A heading between the parts."""
    console.print(f"\n{text}", style="bold", soft_wrap=True)


def shell(directory: Path, *arguments: str) -> None:
    """Run the castore command as one would in a shell, and show it."""
    console.print(f"$ castore {' '.join(arguments)}", style="dim", soft_wrap=True)
    command = [sys.executable, "-m", "castore", "-C", str(directory), *arguments]
    subprocess.run(command, check=True)


def main(directory: Path) -> None:
    begin = time.perf_counter()
    if (directory / ".castore").is_dir():
        shutil.rmtree(directory / ".castore")
    torch.manual_seed(0)
    torch.set_num_threads(1)  # threads of so small a model wait for one another more than they work
    run = Run(learning_rate=1e-3)
    parameters = sum(parameter.numel() for parameter in run.model.parameters())

    with castore.open(directory, create=True) as store:
        title(
            f"A transformer of {parameters / 1e6:.1f} M parameters learns Python's help texts; "
            f"a commit every {EVERY} steps"
        )
        kept = train(run, store, "main", 1, STEPS, "lr 1e-3")
        shell(directory, "log")

        title("What was stored, against what was committed")
        shell(directory, "stats")

        title(f"Back to step {KEPT_STEP}, compared bit for bit with a copy that was kept in memory")
        old = store.load(f"main:step={KEPT_STEP}")
        console.print(f"all {count_identical(old, kept)} tensors are identical, and so is the rest")

        title("From there another way: a branch with a higher learning rate, in the same store")
        store.branch("exp1", f"main:step={KEPT_STEP}")
        run.restore(old)
        for group in run.optimizer.param_groups:
            group["lr"] = 3e-3
        train(run, store, "exp1", KEPT_STEP + 1, KEPT_STEP + 3 * EVERY, "lr 3e-3")
    shell(directory, "log", "--all", "--graph", "-n", "12")

    title("The branch was no good: delete it, and free what only it used")
    shell(directory, "branch", "-D", "exp1")
    shell(directory, "reflog", "expire", "--expire=now", "--all")
    shell(directory, "gc")

    title("And what is left is whole")
    shell(directory, "fsck", "--read-data")
    command = Path(sys.executable).parent / "castore"
    console.print(f"\nDone in {time.perf_counter() - begin:.0f} s. Look around in the store with")
    console.print(f"  {command} -C {directory} log", style="dim", soft_wrap=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ".quickstart"))
