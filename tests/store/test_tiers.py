"""What goes into a commit of a tier, and commits that are moved between tiers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import torch

import castore
from castore.errors import CorruptError, RevisionError, UnsupportedStoreError, UsageError
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import assert_loads, assert_sound, state
from tests.tiered import tiered

TIERS = """
[tiers.recovery]
exclude = ["frozen", "model.half"]
keep_last = 2

[tiers.weights]
include = ["model"]

[tiers.archive]
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with tiered(tmp_path, TIERS) as store:
        yield store


def without(whole: dict[str, Any], *paths: str) -> dict[str, Any]:
    found = {name: dict(part) if isinstance(part, dict) else part for name, part in whole.items()}
    for path in paths:
        name, _, inner = path.partition(".")
        del (found[name] if inner else found)[inner or name]
    return found


def test_what_a_tier_leaves_out_is_not_there_and_the_commit_says_so(store: Store) -> None:
    commit = store.commit(state(1), tier="recovery")
    assert equal_states(store.load("main"), without(state(1), "frozen", "model.half"))
    assert commit.meta["left-out"] == "frozen, model.half"
    assert set(commit.stats.components) == {"model", "tied"}
    store.commit(state(2), tier="weights")
    assert equal_states(store.load("main"), {"model": state(2)["model"]})
    whole = store.commit(state(3), tier="archive")
    assert equal_states(store.load("main"), state(3)) and "left-out" not in whole.meta
    assert equal_states(store.load(store.commit(state(4)).id), state(4))
    assert_sound(store)


def test_memory_that_is_shared_comes_along_and_lists_keep_their_places(tmp_path: Path) -> None:
    tied = torch.arange(40.0)
    listed = [torch.ones(3), torch.zeros(3)]
    with tiered(tmp_path / "s", '[tiers.a]\nexclude = ["first", "listed.0", "gone.*"]') as store:
        state = {"first": tied, "second": [tied, tied[3:]], "listed": listed, "gone": {"x": 1, "y": 2}, "empty": {}}
        commit = store.commit(state, tier="a")
        found = store.load("main")
    assert found.keys() == {"second", "listed", "empty"}
    assert found["second"][0].data_ptr() + 12 == found["second"][1].data_ptr()
    assert found["listed"][0] is None and torch.equal(found["listed"][1], listed[1])
    assert commit.meta["left-out"] == "first, gone, listed.0"


def test_a_tier_that_lets_in_nothing_is_refused_before_anything_is_written(store: Store) -> None:
    with pytest.raises(UsageError, match="tier weights lets in nothing of this: x"):
        store.commit({"x": torch.ones(3)}, tier="weights")
    assert store.branches() == {}


def test_files_go_in_or_stay_out_whole(store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    for name in ("model.pt", "frozen.pt", "sub/frozen.bin", "sub/other.bin"):
        (out / name).write_bytes(name.encode() * 300)
    store.commit_files([out], tier="recovery")
    assert {one.path for one in store.entries("main")} == {"model.pt", "sub/frozen.bin", "sub/other.bin"}
    assert store.show().meta["left-out"] == "frozen.pt"
    store.commit_files([out / "model.pt", out / "frozen.pt"], tier="weights")
    assert {one.path for one in store.entries("main")} == {"model.pt"}
    nothing = '[tiers.a]\nexclude = ["sub", "*.pt"]\ninclude = ["*"]'
    with tiered(tmp_path, nothing) as other, pytest.raises(UsageError, match="lets in nothing"):
        other.commit_files([out], tier="a")
    with tiered(tmp_path, '[tiers.a]\nexclude = ["sub/*"]') as other:
        other.commit_files([out], tier="a")
        assert {one.path for one in other.entries("main")} == {"model.pt", "frozen.pt"}


def test_a_tier_that_there_is_not_is_refused_only_where_there_are_others(store: Store, tmp_path: Path) -> None:
    for tier in ("archiv", "auto"):
        with pytest.raises(UsageError, match=r"no tier .*castore\.toml has: recovery, weights, archive"):
            store.commit(state(1), tier=tier)
    assert store.branches() == {}
    with castore.open(tmp_path / "plain", create=True) as plain:
        assert plain.commit(state(1), tier="gold").tier == "gold"
        assert plain.commit({**state(2), "analysis": 5}, tier="recovery").meta["left-out"] == "analysis"


def test_a_table_that_cannot_be_read_names_the_file_and_drops_no_commit(tmp_path: Path) -> None:
    with tiered(tmp_path, "[tiers.a]\nkeep_lats = 5") as store:
        history = {store.commit(state(1)).id: 1}
        for ask in (store.prune, store.tiers, store.mirror, lambda: store.commit(state(2), tier="a")):
            with pytest.raises(UsageError, match=r"castore\.toml: tiers\.a: there is no key 'keep_lats'"):
                ask()
        assert_loads(store, history)
        assert [commit.id for commit in store.log()] == list(history)


# Moves


def test_a_moved_commit_is_of_the_other_tier_for_everybody(store: Store) -> None:
    ids = [store.commit(state(seed), step=seed, tier="recovery").id for seed in range(6)]
    moved = store.move_tier("main~4", "archive")
    assert moved.commit == ids[1] and moved.tier == "archive"
    assert [one.tier for one in store.log()][::-1] == ["recovery", "archive", *["recovery"] * 4]
    with castore.open(store.path) as other:
        assert other.show(ids[1]).tier == "archive"
        found = other.tier_of(ids[1])
        assert (found.tier, found.made, found.moved, found.copies) == ("archive", "recovery", moved, ())
    store.prune()
    assert {one.step for one in store.log() if one.id not in store.drops()} == {1, 4, 5}
    store.gc()
    assert_sound(store)
    assert store.move_tier(ids[1], "recovery").tier == "recovery"
    store.prune()
    assert ids[1] in store.drops()


def test_only_where_something_was_moved_must_a_program_know_of_it(store: Store) -> None:
    store.commit(state(1), tier="recovery")
    config = store.path / "castore.toml"
    assert '"tiers"' not in config.read_text()
    store.move_tier("main", "archive")
    assert '"tiers"' in config.read_text() and "[tiers.weights]" in config.read_text()
    config.write_text(config.read_text().replace('"tiers"', '"tiers-9"'))
    with pytest.raises(UnsupportedStoreError, match="tiers-9"):
        castore.open(store.path)


def test_a_commit_is_moved_to_no_tier_that_there_is_not_nor_one_that_is_not_there(store: Store) -> None:
    store.commit(state(1), tier="recovery")
    for tier in ("archiv", "auto"):
        with pytest.raises(UsageError):
            store.move_tier("main", tier)
    with pytest.raises(RevisionError):
        store.move_tier("nothing", "archive")
    assert store.show().tier == "recovery"


def test_gc_forgets_moves_of_commits_that_are_gone(store: Store) -> None:
    store.commit(state(1), branch="main", tier="recovery")
    store.commit(state(2), branch="other", tier="recovery")
    for branch in ("main", "other"):
        store.move_tier(branch, "archive")
    store.delete_branch("other", force=True)
    store.expire_reflog(None, datetime.now(timezone.utc) + timedelta(days=1))
    store.gc()
    assert len((store.path / "tiers").read_text().splitlines()) == 2  # the check, and the move
    assert store.show("main").tier == "archive"


def test_a_damaged_line_is_told_and_keeps_prune_from_dropping(store: Store) -> None:
    for seed in range(5):
        store.commit(state(seed), tier="recovery")
    store.move_tier("main~4", "archive")
    file = store.path / "tiers"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\nx", 1))
    assert store.show("main~4").tier == "recovery"
    with pytest.raises(CorruptError, match="tiers has damaged lines: 2"):
        store.prune()
    with pytest.raises(CorruptError, match="damaged lines"):
        store.move_tier("main", "archive")
    assert not store.drops()
    assert any("tiers has damaged lines" in error.problem for error in store.fsck().errors)
    before = file.read_bytes()
    store.gc()
    assert file.read_bytes() == before


def test_a_process_that_dies_while_it_moves_leaves_the_tier_of_before_or_after(store: Store) -> None:
    commit = store.commit(state(1), tier="recovery")
    store.move_tier("main", "weights")
    code = (
        "import sys, castore; from castore.testing import faults\n"
        "with castore.open(sys.argv[1]) as store, faults.die_at(int(sys.argv[2])): store.move_tier('main', 'archive')"
    )
    seen = []
    for number in range(1, 100):
        died = subprocess.run([sys.executable, "-c", code, str(store.path), str(number)], check=False).returncode
        seen.append(store.show(commit.id).tier)
        assert seen[-1] in ("weights", "archive")
        if not died:
            break
        store.move_tier("main", "weights")
    assert seen[0] == "weights" and seen[-1] == "archive"
    assert len(seen) > 5
