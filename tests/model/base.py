"""What all rules of the machine stand on: a store, the plain model of it, and ways to compare them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

import castore
from castore.codecs.choice import FAST_WORTHWHILE
from castore.errors import DroppedError
from castore.operations.commit import commit_flat
from castore.operations.details import details
from castore.operations.sources import LiveSource
from castore.state.live import flatten
from castore.store import Store
from castore.testing.states import equal_states
from tests.crashes.explore import scratch
from tests.model.history import MIRRORED, History, Made
from tests.model.states import KINDS, SEEDS, state

BRANCHES = st.sampled_from(["main", "a", "b"])
LOGS = st.sampled_from(["HEAD", "main", "a", "b"])
TAGS = st.sampled_from(["t", "u"])
STATES = st.tuples(st.integers(0, KINDS - 1), st.integers(0, SEEDS - 1))

_START = datetime.now(timezone.utc) - timedelta(hours=12)
_TABLES = f"""
[tiers.usual]
[tiers.{MIRRORED}]
directory = "copies"
"""


class Base(RuleBasedStateMachine):
    """Two Store objects are open all the time, and one of them acts."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = scratch()
        self.root = Path(self.scratch.name)
        castore.open(self.root, create=True).close()
        file = self.root / ".castore/castore.toml"
        text = file.read_text().replace("chunk_elements = 262144", "chunk_elements = 1024")
        file.write_text(text + _TABLES)
        self.stores = [castore.open(self.root), castore.open(self.root)]
        self.model = History()
        self.acting = 0
        self.made = 0
        self.is_damaged = False

    @property
    def store(self) -> Store:
        return self.stores[self.acting]

    @property
    def path(self) -> Path:
        return self.store.path

    def reopen_all(self) -> None:
        for store in self.stores:
            store.close()
        self.stores = [castore.open(self.root), castore.open(self.root)]

    def make(
        self, branch: str, key: tuple[int, int], days: int = 0, tier: str | None = None, fast: bool = False
    ) -> str:
        """Commit a state. days: that the clock is off. fast: as beside a loop that leaves no processor free."""
        step, loss = self.made, None if self.made % 5 == 4 else (7 * self.made) % 10 / 3
        self.made += 1
        time = _START + timedelta(days=days, seconds=self.made)  # so that ids are the same when Hypothesis tries again
        metrics = {} if loss is None else {"loss": loss}
        if fast:
            flat = flatten(state(*key))
            told = details("fast", step, metrics, None, tier, None, time)
            sources = [LiveSource(one) for one in flat.sources]
            done = commit_flat(self.store.repository, flat.root, sources, branch, told, worthwhile=FAST_WORTHWHILE)
            commit = done.commit
        else:
            commit = self.store.commit(state(*key), branch, f"number {step}", step, metrics, tier=tier, time=time)
        parent = self.model.branches.get(branch)
        assert commit.parents == (() if parent is None else (parent,))
        self.model.commits[commit.id] = Made(commit.id, parent, key, step, loss, tier, time)
        self.model.move(branch, commit.id, time)
        return commit.id

    def is_whole(self, commit: str) -> bool:
        """Whether all of a state can be had, here or from its copy."""
        gone = commit in self.model.dropped | self.model.partial
        return not gone or self.model.copied.get(commit, False)

    def check_load(self, store: Store, commit: str, rev: str | None = None) -> None:
        """A commit loads as it was committed, or is said to have been dropped."""
        if self.is_whole(commit):
            assert equal_states(store.load(rev or commit), state(*self.model.commits[commit].state)), (
                f"{commit} differs"
            )
        else:
            with pytest.raises(DroppedError):
                store.load(rev or commit)

    def draw_revision(self, data: st.DataObject) -> tuple[str, str]:
        """Any way to name a commit, and the commit that it names."""
        model = self.model
        name = data.draw(st.sampled_from(sorted(model.branches)), "branch")
        number = data.draw(st.integers(0, 30), "number")
        line, values, ids = model.line(model.branches[name]), model.values(name), sorted(model.commits)
        made = line[number % len(line)]
        revs = {name: line[0].id, f"{name}~{number % len(line)}": made.id, f"{name}:step={made.step}": made.id}
        revs[ids[number % len(ids)]] = ids[number % len(ids)]
        revs.update({f"tags/{tag}": commit for tag, commit in model.tags.items()})
        if (old := values[number % len(values)]) in model.commits:
            revs[f"{name}@{{{number % len(values)}}}"] = old
        if model.head in model.branches:
            revs["HEAD"] = model.branches[model.head]
        rev = data.draw(st.sampled_from(sorted(revs)), "revision")
        return rev, revs[rev]
