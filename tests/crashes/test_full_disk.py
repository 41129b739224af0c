"""A disk with room for no commit, or a part of one, or one: what does not fit is refused, and costs nothing else."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import castore
from castore.errors import StorageError
from castore.testing import faults
from tests.mounts import mount_small_disk, own_mounts
from tests.processes import answer
from tests.samples import assert_loads, assert_sound, incoming, state

PAGE_BYTES = 4096


@contextlib.contextmanager
def filled(directory: Path, pages: int) -> Iterator[None]:
    """Fill the disk of a directory but for some pages."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        while os.statvfs(directory).f_bavail > pages:
            file.write(bytes(PAGE_BYTES))
    yield
    filler.unlink()


@pytest.mark.parametrize("effort", ["full", "fast"])
@pytest.mark.parametrize(
    ("room", "outcomes"),
    [
        *((room, ["refused"]) for room in range(3)),
        *((room, ["refused", "fits"]) for room in range(3, 10)),
        (500, ["fits"]),
    ],
)
def test_a_commit_that_does_not_fit_is_refused_and_the_next_one_works(
    memory: Path, room: int, outcomes: list[str], effort: str
) -> None:
    def work() -> str:
        mounted = own_mounts()
        if mounted:
            mount_small_disk(memory, 4 << 20)
        with castore.open(memory, create=True) as store:
            history = {store.commit(state(seed)).id: seed for seed in (1, 2)}
            # Where nothing may be mounted, each operation after some fails, as on a disk that stays full.
            full = filled(memory, room) if mounted else faults.inject("", 1 + room, errno.ENOSPC, after=True)
            outcome = "fits"
            with full:
                try:
                    history[store.commit(state(3), effort=effort).id] = 3
                except StorageError as error:
                    assert "free some space" in str(error) and "\n" not in str(error)
                    outcome = "refused"
                assert_loads(store, history)
            assert_sound(store)
            history[store.commit(state(4)).id] = 4
            store.gc()
            assert incoming(store) == [] and not list(store.path.rglob("*.tmp"))
        with castore.open(memory) as store:
            assert_loads(store, history)
            assert_sound(store)
            assert store.check_audit().ok
        return outcome

    assert answer(work) in outcomes
