"""A small store that has a file of every kind, and what its commits hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import torch

import castore
from castore.history.verifications import Verification
from castore.maintenance.upkeep.state import State
from castore.objects import nodes
from castore.operations.load import load_here
from castore.store import Store
from tests.chunks import fixture_v1

START = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(hours=1)
_SIGNATURE = b"-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n"


@dataclass(frozen=True, slots=True)
class Everything:
    """root: the directory with the `.castore`. states: by commit id what is left of its state, of the commits that
    something leads to (all but one, which is large); paths: its tensors, as far as they are in `states`."""

    root: Path
    states: dict[str, Any]
    paths: dict[str, tuple[str, ...]]

    @property
    def path(self) -> Path:
        return self.root / ".castore"

    def files(self) -> list[str]:
        """The names of all its files, below `path`, that have a byte."""
        found = (path for path in self.path.rglob("*") if path.is_file() and path.stat().st_size)
        return sorted(str(path.relative_to(self.path)) for path in found)


def state(step: int) -> dict[str, Any]:
    """Few distinct bytes, of which some move from step to step."""
    moved = torch.arange(150) % 23
    moved[::50] += step
    return {
        "model": {"w": moved.float() / 7, "tied": [torch.arange(9), torch.arange(9)]},
        "optimizer": {"m": (torch.arange(80) % 7 + step).float()},
        "step": step,
    }


def everything(root: Path) -> Everything:
    """Make the store in `root`: packs of both versions, branches, tags, logs, pins, drops, moves, and the rest."""
    fixture_v1.copy_of_the_store(root / ".castore")
    with castore.open(root) as store:
        for step in range(3, 7):
            _commit(store, state(step), "team/run", step, "recovery" if step == 4 else None)
        _commit(store, {"lone": torch.arange(30) * 3}, "lone", 8)
        lone = store.resolve("lone")
        store.pin(lone, "of use")
        store.delete_branch("lone", force=True)
        store.delete_branch("gone", force=True)
        store.tag("v/1", "team/run~1")
        store.switch("team/run")
        store.move_tier("team/run~2", "archive")
        store.prune({"drop_components": "optimizer:older-than=1s"}, branch="team/run")
        store.load("v/1")
        repo = store.repository
        with repo.lock.held():
            repo.verifications.add(Verification(lone, START, ""))
            repo.signatures.add(lone, _SIGNATURE)
        State({"gc": START.timestamp()}).write(store.path, repo.lock)
        tips = [*store.branches().values(), *store.tags().values(), lone]
        commits = {commit.id for tip in tips for commit in store.log(tip)} - {store.resolve("main~1")}
        paths = {one: paths_of(store, one) for one in commits}
        states = {one: load_here(repo, one, paths[one], None) for one in commits}
        assert store.fsck().ok
    return Everything(root, states, paths)


def _commit(store: Store, content: Any, branch: str, step: int, tier: str | None = None) -> None:
    time = START + timedelta(seconds=step)
    store.commit(content, branch, f"state {step}", step=step, author="ada@host", time=time, tier=tier)


def paths_of(store: Store, commit: str) -> tuple[str, ...]:
    """The paths of the tensors of a commit that were not dropped, but for one that takes long to load."""
    repo = store.repository
    root = repo.tree(repo.commit(commit))
    return tuple(".".join(path) for path, entry in nodes.tensors(root) if not entry.dropped and path != ("zeros",))
