"""Payloads that are written from the pages in which they lie."""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path

import numpy as np

import castore
from castore import dtypes, repo
from castore.chunks import blocks, salvage
from castore.chunks.session import Put
from castore.codecs.choice import FAST_WORTHWHILE
from castore.repo import Repository
from tests.chunks.test_blocks import can_pass_cache, pages

APART = blocks.APART_BYTES // mmap.PAGESIZE  # pages
FLOAT32 = dtypes.by_name("float32")


def test_records_at_pages_are_found_by_the_footer_and_without_it(tmp_path: Path) -> None:
    repo.create(tmp_path / ".castore")
    with contextlib.closing(Repository(tmp_path / ".castore")) as store:
        raws = [pages(APART * (1 + number % 3)) for number in range(40)]
        raws[7::8] = [memoryview(os.urandom(5000 + 4 * number)) for number in range(5)]  # among them some that do not
        with store.chunks.session(worthwhile=FAST_WORTHWHILE) as session:
            ids = [one.id for one in session.put_chunks([Put(raw, FLOAT32) for raw in raws])]
            session.seal()
            with store.lock.held():
                session.publish()
        (pack_id,) = store.chunks.access.index.packs()
        files = store.chunks.files
        entries = {entry.id: entry for entry in files.footer(pack_id)}
        if can_pass_cache(tmp_path):
            assert [entries[one].offset % mmap.PAGESIZE == 0 for one in ids] == [len(raw) > 6000 for raw in raws]
        for one, raw in zip(ids, raws, strict=True):
            assert files.read(pack_id, entries[one].offset, len(raw)) == raw
        found = {entry.id: (entry, payload) for entry, payload in salvage.intact_records(files, pack_id)}
        assert {one: bytes(found[one][1]) for one in ids} == dict(zip(ids, map(bytes, raws), strict=True))
        assert [found[one][0] for one in ids] == [entries[one] for one in ids]
        assert files.size(pack_id) < sum(len(raw) for raw in raws) + 2 * mmap.PAGESIZE * len(raws)


def test_arrays_in_pages_come_back_after_a_commit_in_haste(tmp_path: Path) -> None:
    state = {str(number): np.frombuffer(pages(APART + number), np.float32) for number in range(6)}
    with castore.open(tmp_path, create=True) as store:
        store.commit(state, effort="fast")
        loaded = store.load("main")
        assert all(np.array_equal(loaded[key].view(np.uint32), state[key].view(np.uint32)) for key in state)
        assert store.fsck(read_data=True).ok
