"""What is committed one after another, by one open store and by one that is opened each time."""

from __future__ import annotations

from pathlib import Path

import pytest

import castore
from tests.samples import assert_loads, assert_sound, state


@pytest.mark.parametrize("effort", ["full", "fast"])
def test_a_store_that_stays_open_commits_what_one_that_is_opened_each_time_does(tmp_path: Path, effort: str) -> None:
    """What it remembers of its last commit and what it reads of it are the same."""
    with castore.open(tmp_path / "open", create=True) as store:
        kept = [store.commit(state(seed, 70_000), effort=effort) for seed in range(4)]
        opened = []
        for seed in range(4):
            with castore.open(tmp_path / "opened", create=True) as other:
                opened.append(other.commit(state(seed, 70_000), effort=effort))
        assert [(one.tree, one.stats) for one in kept] == [(one.tree, one.stats) for one in opened]
        assert effort == "fast" or kept[-1].stats.components["model"].delta_bytes > 0
        assert_loads(store, {one.id: seed for seed, one in enumerate(kept)}, 70_000)
        assert_sound(store)


def test_a_commit_on_what_another_store_object_committed_meanwhile_stands_on_that(tmp_path: Path) -> None:
    with castore.open(tmp_path, create=True) as first, castore.open(tmp_path) as second:
        first.commit(state(1, 70_000))
        second.commit(state(2, 70_000))
        made = first.commit(state(2, 70_000))
        assert made.stats.total.stored_bytes == 0
        assert made.parents == (second.resolve("main~1"),)
        assert_sound(first)
