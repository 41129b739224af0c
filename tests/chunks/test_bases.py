"""What becomes the base of a new chunk, where its parent's record may have several bases itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from castore import repo
from castore.chunks.bases import DeltaLimits, base_of
from tests.chunks.dags import UINT8, Node, id_of, raw_of, write

LIMITS = DeltaLimits(max_depth=1, max_depth_half=1, max_depth_predicted=1, max_span=12)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[repo.Repository]:
    repo.create(tmp_path / ".castore")
    opened = repo.Repository(tmp_path / ".castore")
    yield opened
    opened.close()


def base(store: repo.Repository, parent: int, max_depth: int) -> bytes | None:
    (place,) = store.chunks.places([id_of(store, parent)])
    found = base_of(store.chunks.decoder, id_of(store, parent), place, UINT8, replace(LIMITS, max_depth=max_depth))
    assert found is None or found.place == store.chunks.places([found.id])[0]
    return None if found is None else found.id


def test_depth_is_that_of_the_deepest_base(store: repo.Repository) -> None:
    write(store, [Node(), Node(), Node((1,)), Node(), Node((0, 2, 1))])
    assert base(store, 4, max_depth=3) == id_of(store, 4)  # it is 2 deep, by way of 2
    assert base(store, 4, max_depth=2) is None
    assert base(store, 3, max_depth=1) == id_of(store, 3)


def test_the_first_base_is_followed_down_as_far_as_it_is_as_long(store: repo.Repository) -> None:
    dag = [Node(), Node(), Node(), Node((0,), in_place=True), Node((1, 2)), Node((3,)), Node((3,), in_place=True)]
    dag += [Node((4,), in_place=True), Node((5,), in_place=True), Node((6,), in_place=True)]
    write(store, dag)
    assert [base(store, 9, most) for most in (1, 2, 3, 4)] == [id_of(store, number) for number in (0, 3, 6, 9)]
    assert [base(store, 7, most) for most in (1, 2, 3)] == [id_of(store, number) for number in (1, 4, 7)]
    assert len(raw_of(5)) != len(raw_of(3))  # what it was derived from, and no likeness of it
    assert [base(store, 8, most) for most in (1, 2, 3, 4)] == [None, None, id_of(store, 5), id_of(store, 8)]
