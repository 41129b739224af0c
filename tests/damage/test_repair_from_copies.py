"""What a second directory has, `fsck --repair` takes from there; what it takes is bit for bit what was lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.chunks import pack
from castore.errors import CastoreError, CorruptError
from castore.store import Store
from castore.testing import faults
from castore.testing.states import equal_states
from tests.samples import flip, packs, state
from tests.tiered import tiered

TIERS = "[tiers.archive]\ndirectory = 'disk2/copies'\n"


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[tuple[Store, dict[str, int]]]:
    """Four commits, of which all but the newest have copies, and their seeds."""
    (tmp_path / "disk2").mkdir()
    with tiered(tmp_path, TIERS) as store:
        history = {store.commit(state(seed), tier="archive").id: seed for seed in range(3)}
        store.mirror()
        history[store.commit(state(3)).id] = 3
        yield store, history


def loadable(store: Store, history: dict[str, int]) -> set[int]:
    """The seeds of the commits that this very store loads, every one as it was committed."""
    shutil.move(store.path.parent / "disk2", store.path.parent / "away")
    found = set()
    try:
        for commit, seed in history.items():
            try:
                assert equal_states(store.load(commit), state(seed))
                found.add(seed)
            except CastoreError:
                pass
    finally:
        shutil.move(store.path.parent / "away", store.path.parent / "disk2")
    return found


def damage_every(store: Store, kind: int) -> int:
    """Flip a bit of every record of a kind in the first three packs; how many."""
    count = 0
    for path in packs(store)[:3]:
        for entry in store.repository.chunks.files.footer(bytes.fromhex(path.stem)):
            if entry.kind == kind and entry.length:
                flip(path, entry.offset + entry.length // 2)
                count += 1
    return count


@pytest.mark.parametrize("kind", [pack.CHUNK, pack.TREE, pack.COMMIT, pack.PROVENANCE])
def test_damaged_records_of_every_kind_come_back(copied: tuple[Store, dict[str, int]], kind: int) -> None:
    store, history = copied
    assert damage_every(store, kind)
    with castore.open(store.path) as other:
        assert not other.fsck().ok
        report = other.fsck(repair=True)
        assert report.ok, report.errors
        assert any(line.startswith("took ") and str(store.path.parent / "disk2") in line for line in report.repaired)
        assert loadable(other, history) == {0, 1, 2, 3}
        assert list((store.path / "quarantine").iterdir())
        assert other.fsck().ok and other.check_audit().ok
        other.gc()
        assert loadable(other, history) == {0, 1, 2, 3}
    with castore.open(store.path) as again:
        assert again.fsck(repair=True).repaired == ()


@pytest.mark.parametrize("index_is_lost", [False, True])
def test_packs_that_are_gone_or_cut_come_back(copied: tuple[Store, dict[str, int]], index_is_lost: bool) -> None:
    store, history = copied
    first, second, third, _ = packs(store)
    first.unlink()
    os.truncate(second, 700)
    os.truncate(third, 0)
    if index_is_lost:
        shutil.rmtree(store.path / "index")
    with castore.open(store.path) as other:
        report = other.fsck(repair=True)
        assert report.ok, report.errors
        assert loadable(other, history) == {0, 1, 2, 3}


def test_what_no_copy_has_is_quarantined_and_the_rest_loads(copied: tuple[Store, dict[str, int]]) -> None:
    store, history = copied
    newest = packs(store)[-1]
    (entry, *_) = store.repository.chunks.files.footer(bytes.fromhex(newest.stem))
    flip(newest, entry.offset)
    damage_every(store, pack.CHUNK)
    with castore.open(store.path) as other:
        report = other.fsck(repair=True)
        lost = [commit for commit, seed in history.items() if seed == 3]
        assert {one for error in report.errors for one in error.commits} == set(lost)
        assert loadable(other, history) == {0, 1, 2}


def test_a_directory_that_is_gone_keeps_nothing_from_being_repaired(copied: tuple[Store, dict[str, int]]) -> None:
    store, history = copied
    shutil.rmtree(store.path.parent / "disk2")
    damage_every(store, pack.PROVENANCE)
    with castore.open(store.path) as other:
        report = other.fsck(repair=True)
        assert not report.ok and report.repaired
        for commit, seed in history.items():
            assert equal_states(other.load(commit), state(seed))


def test_copies_that_are_damaged_too_give_what_is_good_in_them(copied: tuple[Store, dict[str, int]]) -> None:
    store, history = copied
    damage_every(store, pack.CHUNK)
    with castore.open(store.path.parent / "disk2" / "copies") as copies:
        for path in packs(copies):
            for entry in copies.repository.chunks.files.footer(bytes.fromhex(path.stem))[:1]:
                flip(path, entry.offset)
    with castore.open(store.path) as other:
        before = other.fsck()
        after = other.fsck(repair=True)
        assert len(after.errors) < len(before.errors)
        for commit, seed in history.items():
            try:
                assert equal_states(other.load(commit), state(seed))
            except CorruptError:
                assert any(commit in error.commits for error in after.errors)


def test_a_lost_ref_is_told_with_where_it_was(copied: tuple[Store, dict[str, int]]) -> None:
    store, _ = copied
    tip, copy = store.resolve("main"), store.resolve("main~1")
    ref = store.path / "refs/heads/main"
    for text in ("ab" * 16 + "\n", "nonsense\n"):
        ref.write_text(text)
        (problem,) = [error.problem for error in store.fsck(repair=True).errors if "was last at" in error.problem]
        assert f"{tip} by its reflog and the audit log" in problem
        assert f"{copy} by the copy in {store.path.parent / 'disk2'}" in problem
        assert ref.read_text() == text  # it is not for us to say


def test_a_repair_that_dies_can_be_done_again(copied: tuple[Store, dict[str, int]]) -> None:
    store, history = copied
    damage_every(store, pack.CHUNK)
    store.close()
    for nth in range(1, 200):
        with castore.open(store.path) as other, faults.inject(nth=nth) as fault:
            try:
                other.fsck(repair=True)
            except CastoreError:
                assert fault.struck
        if not fault.struck:
            break
    with castore.open(store.path) as other:
        assert other.fsck(repair=True).ok
        assert loadable(other, history) == {0, 1, 2, 3}
