"""A small model in training, a store of small chunks, and the process that makes its commits."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import nn

import castore
from castore.store import Store
from castore.testing.states import equal_states
from castore.training.commits import Commits, Finished
from castore.training.policy import Policy

EVERY = Policy(every_steps=1, max_overhead=None, when_busy="wait", on_preemption=False)
CHUNK_ELEMENTS = 4096
LARGE = 5 * CHUNK_ELEMENTS + 7  # float32 elements: several chunks, and a place of their own in the staging memory


def open_store(path: Path, policy: str = "") -> Store:
    """A new store whose chunks are so small that a few hundred KB make many. policy: lines of `[policy]`."""
    castore.open(path, create=True).close()
    file = path / ".castore" / "castore.toml"
    text = file.read_text()
    assert f"chunk_elements = {256 << 10}" in text
    text = text.replace(f"chunk_elements = {256 << 10}", f"chunk_elements = {CHUNK_ELEMENTS}")
    file.write_text(text + (f"\n[policy]\n{policy}\n" if policy else ""))
    return castore.open(path)


class Loop:
    """A model whose weight takes several chunks, with momentum. `objects` is what a Checkpointer is given."""

    def __init__(self, seed: int = 0, width: int = 200) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(20, width), nn.Linear(width, 100))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)

    @property
    def objects(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer}

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.randn(3, 20)).square().mean().backward()
        self.optimizer.step()

    def copy(self) -> dict[str, Any]:
        """What the loop holds, in memory of its own."""
        return cloned({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()})


def cloned(state: Any) -> Any:
    """A deep copy of the tensors, dicts and lists of a state, that keeps which tensors are one."""
    known: dict[int, torch.Tensor] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return known.setdefault(value.data_ptr() or id(value), value.detach().clone())
        if isinstance(value, dict):
            made = type(value)((key, walk(item)) for key, item in value.items())
            vars(made).update(vars(value)) if hasattr(value, "__dict__") else None
            return made
        return [walk(item) for item in value] if isinstance(value, list) else value

    return walk(state)


def assert_holds(store: Store, rev: str, expected: dict[str, Any]) -> None:
    """A commit holds these parts bit for bit."""
    found = store.load(rev)
    assert equal_states({name: found[name] for name in expected}, expected), f"{rev} holds something else"


def steps(store: Store, branch: str = "main") -> list[int | None]:
    """The steps of a branch's commits, oldest first."""
    return [commit.step for commit in store.log(branch)][::-1]


def worker_pid() -> int:
    """The process that makes the commits of this one; there must be one such."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            if b"castore.training.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    assert len(found) == 1, found
    return found[0]


def stop(pid: int) -> None:
    """Halt a child process; returns when it stands still."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def kill(pid: int) -> None:
    """Kill a child process; returns when it is gone, and leaves its exit status to whoever waits for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def random_bits(dtype: torch.dtype, elements: int, seed: int = 0) -> torch.Tensor:
    """[elements] of any bits, NaNs included; of torch.bool 0 and 1."""
    bits = torch.randint(0, 256, (elements * dtype.itemsize,), generator=torch.Generator().manual_seed(seed))
    return (bits % 2 if dtype is torch.bool else bits).to(torch.uint8).view(dtype)


def committed(commits: Commits, state: Any) -> Finished:
    """Commit a state, and wait until that is done."""
    commits.commit(state)
    done = commits.wait()
    assert done is not None
    return done


def checkpointer(store: Store, loop: Loop, **settings: Any) -> castore.Checkpointer:
    """One that commits after every step, with a thread, in full. settings: others, and more objects."""
    return castore.Checkpointer(
        store, **{"policy": EVERY, "worker": "thread", "effort": "full", "report": False} | settings | loop.objects
    )
