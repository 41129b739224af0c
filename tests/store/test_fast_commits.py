"""Commits in haste: hashed and written, and coded when there is time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import castore
from castore.errors import UsageError
from castore.testing.states import equal_states
from tests.samples import assert_sound


def drifting(steps: int) -> list[dict[str, torch.Tensor]]:
    """Weights of which a half stays and a half moves a little."""
    torch.manual_seed(5)
    frozen, moving = (torch.randn(512, 1024) * 0.02 for _ in range(2))
    states = []
    for _ in range(steps):
        states.append({"frozen": frozen, "moving": moving})
        moving = moving + 1e-5 * torch.randn_like(moving)
    return states


def test_only_what_is_new_is_written_as_it_is_and_repack_codes_it(tmp_path: Path) -> None:
    tensor = 4 * 512 * 1024
    with castore.open(tmp_path, create=True) as store:
        for number, state in enumerate(drifting(4)):
            stored = store.commit(state, effort="fast").stats.components
            assert stored["moving"].stored_bytes == tensor
            assert stored["frozen"].stored_bytes == (0 if number else tensor)
        before = store.stats().stored_bytes
        store.repack()
        store.gc()
        assert store.stats().stored_bytes < 0.75 * before
        for back, state in enumerate(reversed(drifting(4))):
            assert equal_states(store.load(f"main~{back}"), state)
        assert_sound(store)


def test_files_are_written_as_they_are_too(tmp_path: Path) -> None:
    (state,) = drifting(1)
    torch.save(state, tmp_path / "state.pt")
    with castore.open(tmp_path / "store", create=True) as store:
        commit = store.commit_files([tmp_path / "state.pt"], effort="fast")
        assert commit.stats.total.stored_bytes >= 2 * 4 * 512 * 1024
        store.checkout("main", tmp_path / "out")
        assert_sound(store)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "state.pt").read_bytes()


def test_an_effort_that_there_is_not_writes_nothing(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as store:
        with pytest.raises(UsageError, match="effort is 'full' or 'fast', not 'auto'"):
            store.commit({"w": torch.zeros(3)}, effort="auto")
        assert "main" not in store.branches()
