"""What a commit counts on is swept under it, though all looks as before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import castore
from castore.operations.commit import commit_tree
from castore.operations.details import details
from castore.operations.sources import LiveSource
from castore.state.live import flatten
from castore.testing.states import equal_states
from tests.samples import assert_sound


def test_a_parent_whose_state_is_dropped_and_swept_meanwhile_is_no_proof_that_its_chunks_are_there(path: Path) -> None:
    # The branch is moved away, what it was at is dropped and collected, and it is moved back: it never seems to move.
    value = {"w": torch.randn(3000, generator=torch.Generator().manual_seed(1))}
    with castore.open(path) as store, castore.open(path) as other:
        first = store.commit({"other": 1}).id
        parent = store.commit(value).id
        flat = flatten(value)

        def sweep(_bases: object) -> Mapping[Any, Any]:
            other.tag("t", parent)
            other.branch("main", first, force=True)
            kept = other.commit({"other": 2}).id
            other.delete_tag("t")
            other.branch("line", parent)
            other.commit({"other": 3}, branch="line")
            other.prune({"keep_last": 1})
            assert other.drops().keys() >= {parent}
            other.gc()
            other.branch("main", parent, force=True)
            assert kept != parent
            return {}

        sources = [LiveSource(one) for one in flat.sources]
        done = commit_tree(store.repository, flat.root, sources, "main", details("again"), relate=sweep)
        assert done.commit.parents == (parent,)
        assert equal_states(store.load("main"), value)
        assert_sound(store)
