"""The life of checkpoints: 300 steps committed at each under three tiers, a fine-tune from the middle, and upkeep.

python docs/examples/lifecycle.py [DIRECTORY] [WIDTH]: a new directory for the store; without it all is thrown away. The
width of the model is 256 unless you say; 768 makes a state of 61 MB.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

import castore

STEPS, MIDDLE, FINE_TUNE = 300, 149, 40
# So short a run has short tiers. Recovery is what a restart needs, milestones are for looking back at the run, and the
# archive is copied to another directory, which had better be on another disk.
TIERS = """
[tiers.recovery]
keep_last = 5

[tiers.milestone]
every_steps = 10
keep_last = 10
max_depth = 4

[tiers.archive]
every_steps = 100
max_depth = 8
directory = "archive"
"""


def batches(seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Sequences of 32 numbers, each to be continued by the sum of the two before it, modulo 61."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        numbers = torch.randint(61, (16, 33), generator=generator)
        for place in range(2, 33):
            numbers[:, place] = (numbers[:, place - 1] + numbers[:, place - 2]) % 61
        yield numbers[:, :-1], numbers[:, 1:]


class Model(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(61, width)
        self.places = nn.Embedding(32, width)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()) for _ in range(2)
        )
        self.back = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(2))
        self.head = nn.Linear(width, 61)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        x = self.embedding(numbers) + self.places.weight
        for layer, back in zip(self.layers, self.back, strict=True):
            x = x + back(layer(x + x.roll(1, dims=1)))
        return self.head(x)


def train(store: castore.Store, branch: str, until: int, width: int, lr: float) -> dict[str, object]:
    """Train on a branch from its newest commit on, with a commit at each step; returns the last state."""
    torch.manual_seed(0)
    model = Model(width)
    if branch != "main":
        model.layers[0].requires_grad_(False)  # the fine-tune leaves the first layer as it is: it is not stored again
    optimizer = torch.optim.AdamW((one for one in model.parameters() if one.requires_grad), lr=lr)
    policy = castore.Policy(every_steps=1, max_overhead=None, when_busy="wait")
    objects = {"model": model} if branch != "main" else {"model": model, "optimizer": optimizer}
    data = batches(seed=len(branch))
    with castore.Checkpointer(store, branch=branch, policy=policy, report=False, **objects) as ckpt:
        start = ckpt.resume(strict=branch == "main")
        for step in range(start, until):
            numbers, following = next(data)
            loss = nn.functional.cross_entropy(model(numbers).flatten(0, 1), following.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ckpt.step(step, metrics={"loss": loss.item()})
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def held(store: castore.Store) -> str:
    found = store.stats()
    whole = found.commits - found.dropped
    return f"{found.stored_bytes / 1e6:,.0f} MB for {whole} states, of {found.commits} commits"


def restored(store: castore.Store, rev: str) -> str:
    """How long a state takes to load: the best of three, from a warm cache."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        store.load(rev)
        seconds.append(time.perf_counter() - began)
    return f"{1000 * min(seconds):.0f} ms"


def main(directory: Path, width: int) -> None:
    torch.set_num_threads(1)
    with castore.open(directory, create=True) as store:
        settings = store.path / "castore.toml"
        settings.write_text(settings.read_text() + TIERS)
    with castore.open(directory) as store:
        state = train(store, "main", STEPS, width, lr=1e-3)
        store.branch("fine-tune", f"main:step={MIDDLE}")
        train(store, "fine-tune", MIDDLE + 1 + FINE_TUNE, width, lr=1e-4)
        whole = io.BytesIO()
        torch.save(state, whole)
        kept_by_hand = 5 * whole.tell() / 1e6
        print(f"a state takes {whole.tell() / 1e6:.1f} MB; each commit of it kept by torch.save: ", end="")
        print(f"{(STEPS + FINE_TUNE) * whole.tell() / 1e6:,.0f} MB, the last five: {kept_by_hand:,.0f} MB")
        print(f"all commits in the store: {held(store)}")
        print(f"  newest: {restored(store, 'main')}, step 109: {restored(store, 'main:step=109')}")

    for task in ("mirror", "prune", "repack", "gc"):
        command = ["maintain", "--force", "--only", task, "--time", "1h"]
        done = subprocess.run(
            [sys.executable, "-m", "castore", "-C", str(directory), *command], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        print(done.stdout, end="")
    with castore.open(directory) as store:
        print(f"after that: {held(store)}")
        print(f"  newest: {restored(store, 'main')}, ", end="")
        oldest = next(
            one for one in reversed(list(store.log("main"))) if one.tier == "milestone" and one.id not in store.drops()
        )
        print(f"oldest milestone (step {oldest.step}): {restored(store, oldest.id)}, ", end="")
        print(f"archived (step 100): {restored(store, 'main:step=100')}")
        archived = store.resolve("main:step=100")
        print(f"the curve is whole: {sum(1 for _ in store.log('main'))} losses")
    with castore.open(directory / "archive") as store:
        print(f"the archive by itself: {held(store)}; step 100 from there: {restored(store, archived)}")


if __name__ == "__main__":
    width = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), width)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch), width)
