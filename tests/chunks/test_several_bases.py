"""Records with several bases: gc, rebuild, repair and races keep exactly what can be decoded, and all of it decodes."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import castore
from castore import limits, repo
from castore.chunks import pack
from castore.chunks.session import Put
from castore.chunks.writer import pack_path
from castore.errors import CorruptError, MissingError
from castore.maintenance.gc import gc
from castore.store import Store
from tests.chunks.dags import (
    SEEDS,
    UINT8,
    Dag,
    Node,
    add,
    assert_decode,
    below,
    chunks_in_index,
    id_of,
    random_dag,
    raw_of,
    some,
    write,
)
from tests.samples import assert_sound


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with castore.open(tmp_path, create=True) as opened:
        yield opened


def commit(store: Store, number: int) -> str:
    """A commit, on a branch of its own, that needs one record and finds it there."""
    made = store.commit({"w": np.frombuffer(raw_of(number), np.uint8)}, branch=f"r{number}")
    assert made.stats.total.new_raw_bytes == 0
    return made.id


def numbers_in_index(store: Store, dag: Dag) -> set[int]:
    numbers = {id_of(store._repo, number): number for number in range(len(dag))}
    return {numbers[one] for one in chunks_in_index(store._repo)}


def decodable(store: Store, dag: Dag) -> set[int]:
    """What the footers list and can be decoded: alone, or from others that can."""
    files = store._repo.chunks.files
    listed = {entry.id for pack_id in files.ids() for entry in files.footer(pack_id)}
    there = {number for number in range(len(dag)) if id_of(store._repo, number) in listed}
    return {number for number in there if below(dag, [number]) <= there}


@given(SEEDS)
@settings(max_examples=20)
def test_gc_keeps_what_the_kept_roots_need_and_a_new_index_finds_all_that_can_be_decoded(seed: int) -> None:
    rng = random.Random(seed)
    dag = random_dag(rng)
    roots = set(rng.sample(range(len(dag)), 4))
    kept = some(rng, roots)
    with tempfile.TemporaryDirectory() as directory:
        with castore.open(directory, create=True) as store:
            write(store._repo, dag)
            for number in roots:
                commit(store, number)
            assert_sound(store)
            for number in roots - kept:
                store.delete_branch(f"r{number}", force=True)
            store.gc()
            assert numbers_in_index(store, dag) == below(dag, kept)
            assert_decode(store._repo, below(dag, kept))
            assert_sound(store)
        shutil.rmtree(store.path / "index")
        with castore.open(directory) as store:
            found = numbers_in_index(store, dag)
            assert found == decodable(store, dag)  # dead records too, where their pack stayed and their bases are there
            assert found >= below(dag, kept)
            assert_decode(store._repo, found)
            for number in kept:
                assert store.load(f"r{number}")["w"].tobytes() == raw_of(number)
            assert_sound(store)
            store.gc()
            assert numbers_in_index(store, dag) == below(dag, kept)


@given(SEEDS)
@settings(max_examples=20)
def test_repair_after_the_loss_of_a_pack_keeps_what_can_be_decoded_and_names_the_commits_of_the_rest(seed: int) -> None:
    rng = random.Random(seed)
    dag = random_dag(rng)
    roots = set(rng.sample(range(len(dag)), 4))
    with tempfile.TemporaryDirectory() as directory:
        with castore.open(directory, create=True) as store:
            where = write(store._repo, dag)
            commits = {number: commit(store, number) for number in roots}
        gone = rng.choice(list(where.values()))
        lost = {number for number, pack_id in where.items() if pack_id == gone}
        left = {number for number in range(len(dag)) if not below(dag, [number]) & lost}
        pack_path(store.path / "packs", gone).unlink()
        with castore.open(store.path) as store:
            report = store.fsck()
            affected = {commits[number] for number in roots - left}
            assert {one for error in report.errors for one in error.commits} == affected
            assert all(error.paths == ("w",) for error in report.errors if error.commits)
            repaired = store.fsck(repair=True)
            assert repaired.ok == (not affected)
            assert {one for error in repaired.errors for one in error.commits} == affected
            assert numbers_in_index(store, dag) == left
            assert_decode(store._repo, left)
            for number in roots:
                if number in left:
                    assert store.load(f"r{number}")["w"].tobytes() == raw_of(number)
                else:
                    with pytest.raises(MissingError):
                        store.load(f"r{number}")
            store.gc()  # passes over what is lost, and takes nothing that is not
            assert numbers_in_index(store, dag) == below(dag, roots & left)
            for number in roots:
                store.commit({"w": np.frombuffer(raw_of(number), np.uint8)}, branch=f"again{number}")
                assert store.load(f"r{number}")["w"].tobytes() == raw_of(number)
            assert_sound(store)


@given(SEEDS)
@settings(max_examples=20)
def test_what_a_sweep_takes_from_under_a_session_is_written_again(seed: int) -> None:
    rng = random.Random(seed)
    dag = list(random_dag(rng, packs=1))
    old = rng.randint(1, len(dag) - 1)  # the first records are in the store; the session writes the others
    dag[:old] = [Node()] * old
    kept = some(rng, range(old))
    with tempfile.TemporaryDirectory() as directory, castore.open(directory, create=True) as store:
        inner = store._repo
        write(inner, dag[:old])
        for number in kept:
            commit(store, number)
        with inner.chunks.session() as session:
            for number in range(old, len(dag)):
                add(inner, session, dag, number)
            session.seal()
            gc(inner, datetime.now(timezone.utc), dry_run=False)
            orphans = {number for number in range(old, len(dag)) if below(dag, [number]) & (set(range(old)) - kept)}
            with inner.lock.held():
                assert session.swept() == bool(orphans)
                assert not session.swept()
            for number in range(old, len(dag)):
                (stored,) = session.put_chunks([Put(memoryview(raw_of(number)), UINT8)])
                assert (stored.added_bytes > 0) == (number in orphans)
                assert not stored.is_delta
            session.seal()
            with inner.lock.held():
                assert not session.swept()
                session.publish()
        written = kept | set(range(old, len(dag)))
        assert numbers_in_index(store, dag) == written
        assert_decode(inner, written)
        shutil.rmtree(store.path / "index")
        with castore.open(directory) as again:
            assert_decode(again._repo, written)


def test_of_a_damaged_base_every_tensor_above_it_is_named(store: Store) -> None:
    dag = [Node(pack=0), Node(pack=0), Node(pack=2), Node((0, 1), 1), Node((3, 2), 2)]
    write(store._repo, dag)
    commits = {number: commit(store, number) for number in (2, 3, 4)}
    for damaged, dependants in ((0, {3, 4}), (1, {3, 4}), (3, {3, 4}), (2, {2, 4})):
        place = store._repo.chunks.access.index.get(id_of(store._repo, damaged))
        assert place is not None
        path = pack_path(store.path / "packs", place.pack)
        good = path.read_bytes()
        start, end = place.offset, place.offset + place.length
        path.write_bytes(good[:start] + bytes(one ^ 1 for one in good[start:end]) + good[end:])
        with castore.open(store.path) as other:
            report = other.fsck()
            (error,) = report.errors  # what stands on it is good itself
            assert error.record == id_of(store._repo, damaged).hex()
            assert set(error.commits) == {commits[number] for number in dependants}
            for number in commits:
                if number in dependants:
                    with pytest.raises(CorruptError, match="w cannot be loaded"):
                        other.load(commits[number])
                else:
                    other.load(commits[number])
        path.write_bytes(good)
    assert_sound(store)


def test_two_damaged_bases_of_one_record_are_both_held_to_account(store: Store) -> None:
    write(store._repo, [Node(pack=0), Node(pack=1), Node((0, 1), 2)])
    made = commit(store, 2)
    for number in (0, 1):
        place = store._repo.chunks.access.index.get(id_of(store._repo, number))
        assert place is not None
        path = pack_path(store.path / "packs", place.pack)
        data = bytearray(path.read_bytes())
        data[place.offset] ^= 1
        path.write_bytes(data)
    with castore.open(store.path) as other:
        by_record = {error.record: error.commits for error in other.fsck().errors}
    assert by_record == {id_of(store._repo, number).hex(): (made,) for number in (0, 1)}


def test_stats_count_a_record_of_several_bases_as_a_delta(store: Store) -> None:
    write(store._repo, [Node(), Node(), Node((0, 1))])
    stats = store.stats()
    assert (stats.chunks, stats.delta_bytes) == (3, len(raw_of(2)))
    assert stats.codecs["xor-of-bases"] == len(raw_of(2))
    assert stats.standalone_bytes == len(raw_of(0)) + len(raw_of(1))


def test_no_writer_makes_a_record_with_more_bases_than_a_reader_takes(store: Store) -> None:
    dag = [Node()] * 5 + [Node(tuple(range(limits.MAX_BASES + 1)))]
    inner: repo.Repository = store._repo
    with inner.chunks.session() as session, pytest.raises(ValueError, match="at most 4 bases"):
        add(inner, session, dag, 5)
    assert inner.chunks.access.index.count() == 0
    assert pack.Format(16).most_entry_bytes == 16 + 29 + 4 * 16
