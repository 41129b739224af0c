"""Rules: states in, states out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import rule

from castore.errors import DroppedError, RevisionError
from castore.testing.states import equal_states
from tests.model.base import BRANCHES, STATES, Base
from tests.model.history import MIRRORED
from tests.model.states import state

_CLOCKS = st.sampled_from([0, 0, 0, 0, 1, -1, -3, -40, 40])  # days that the clock of a commit is off


class States(Base):
    @rule(branch=BRANCHES, key=STATES, days=_CLOCKS, tier=st.sampled_from(["usual", MIRRORED]))
    def commit(self, branch: str, key: tuple[int, int], days: int, tier: str) -> None:
        self.make(branch, key, days, tier)

    @rule(branch=BRANCHES, key=STATES)
    def commit_fast(self, branch: str, key: tuple[int, int]) -> None:
        self.make(branch, key, fast=True)

    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        assert self.store.resolve(rev) == commit
        self.check_load(self.store, commit, rev)

    @rule(data=st.data())
    def load_a_part(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        if commit in self.model.dropped and commit not in self.model.copied:
            with pytest.raises(DroppedError):
                self.store.load(rev, only="model")
        else:
            expected = {"model": state(*self.model.commits[commit].state)["model"]}
            assert equal_states(self.store.load(rev, only="model"), expected)

    @rule(data=st.data())
    def load_into(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        expected = state(*self.model.commits[commit].state)
        target = _emptied(expected)
        if self.is_whole(commit):
            self.store.load_into(rev, target)
            assert equal_states(target, expected)
        else:
            with pytest.raises(DroppedError):
                self.store.load_into(rev, target)

    @rule(data=st.data())
    def check_out(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        out = self.root / "out.pt"
        if self.is_whole(commit):
            self.store.checkout(rev, out, format="pt", force=True)
            expected = state(*self.model.commits[commit].state)
            assert equal_states(torch.load(out, weights_only=False), expected)
        else:
            with pytest.raises(DroppedError):
                self.store.checkout(rev, out, format="pt", force=True)

    @rule(branch=BRANCHES)
    def log(self, branch: str) -> None:
        if branch not in self.model.branches:
            with pytest.raises(RevisionError):
                list(self.store.log(branch))
            return
        found = [(one.id, one.step, one.metrics.get("loss")) for one in self.store.log(branch)]
        assert found == [(one.id, one.step, one.loss) for one in self.model.line(self.model.branches[branch])]


def _emptied(value: Any) -> Any:
    """A state of the same shape with nothing in its tensors; one tensor in two places stays one."""
    made = copy.deepcopy(value)
    pending = [made]
    while pending:
        one = pending.pop()
        if isinstance(one, torch.Tensor):
            one.zero_()
        elif isinstance(one, dict | list | tuple):
            pending.extend(one.values() if isinstance(one, dict) else one)
    return made
