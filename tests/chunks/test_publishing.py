"""Sessions that publish over each other: what the index has stays decodable, whatever gc took in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from castore import dtypes, repo
from castore.chunks.session import Put, Stored, WriteSession
from castore.errors import StateError
from castore.maintenance.gc import gc

FLOAT32 = dtypes.by_name("float32")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[repo.Repository]:
    repo.create(tmp_path / ".castore")
    opened = repo.Repository(tmp_path / ".castore")
    yield opened
    opened.close()


def near_copies() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    first = rng.normal(size=100_000).astype(np.float32)
    second = (first.view(np.uint32) + rng.integers(0, 3, size=first.size, dtype=np.uint32)).view(np.float32)
    return first, second


def put(session: WriteSession, array: np.ndarray, base: bytes = b"") -> Stored:
    return session.put_chunks([Put(memoryview(array).cast("B"), FLOAT32, base)])[0]


def published(store: repo.Repository, array: np.ndarray, base: bytes = b"") -> Stored:
    with store.chunks.session() as session:
        stored = put(session, array, base)
        session.seal()
        with store.lock.held():
            session.publish()
    return stored


def sweep_everything(store: repo.Repository) -> None:
    assert gc(store, datetime.now(timezone.utc), dry_run=False).removed_chunks > 0


def test_a_chunk_that_another_session_published_whole_is_not_replaced_by_a_delta_without_base(
    store: repo.Repository,
) -> None:
    y, x = near_copies()
    base = published(store, y).id
    with store.chunks.session() as late:
        assert put(late, x, base).is_delta
        late.seal()
        sweep_everything(store)
        chunk = published(store, x).id
        with store.lock.held():
            assert late.swept()
        put(late, x, base)
        late.seal()
        with store.lock.held():
            assert not late.swept()
            late.publish()
    assert store.chunks.chunk(chunk) == x.tobytes()


def test_two_sessions_never_make_each_others_chunks_their_bases_in_a_circle(store: repo.Repository) -> None:
    y, x = near_copies()
    base = published(store, y).id
    with store.chunks.session() as late:
        assert put(late, x, base).is_delta
        late.seal()
        sweep_everything(store)
        chunk = published(store, x).id
        assert published(store, y, chunk).is_delta
        with store.lock.held():
            assert not late.swept()
            late.publish()
    assert store.chunks.chunk(chunk) == x.tobytes()
    assert store.chunks.chunk(base) == y.tobytes()


def test_an_object_larger_than_any_reader_takes_is_refused(store: repo.Repository) -> None:
    with store.chunks.session() as session, pytest.raises(StateError, match="commit it as an array or a file"):
        session.put_object(3, bytes(65 << 20))
