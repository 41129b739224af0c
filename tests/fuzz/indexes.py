"""Indexes that lie: a good LMDB file whose records say something else than the packs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import cbor2
import lmdb

from castore.errors import CastoreError
from castore.store import open as open_store
from castore.testing.states import equal_states
from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.packs import small_store
from tests.fuzz.target import LMDB_BYTES, MIB, Target

_TABLES = (b"records", b"packs", b"meta", b"sketches")
_MAP_BYTES = 16 * MIB


@dataclass
class IndexTarget:
    """An input is the index's content: of each table, keys and values."""

    root: Path
    growth_bytes: int = 256 * MIB
    mapped_bytes: int = LMDB_BYTES
    expected: dict[str, Any] = field(default_factory=dict)

    def seeds(self) -> Sequence[bytes]:
        with small_store(self.root / "s") as store:
            self.expected = {name: store.load(name) for name in ("main", "main~2", "files")}
        return [cbor2.dumps(self._content())]

    def _content(self) -> list[list[list[bytes]]]:
        found: list[list[list[bytes]]] = []
        with self._opened() as env:
            for name in _TABLES:
                table = env.open_db(name)
                with env.begin() as txn, txn.cursor(db=table) as cursor:
                    found.append([[bytes(key), bytes(value)] for key, value in cursor])
        return found

    def _opened(self) -> Any:
        return lmdb.open(str(self.root / "s/.castore/index"), map_size=_MAP_BYTES, max_dbs=4, sync=False)

    def mutated(self, data: bytes, rng: Random) -> bytes:
        tables = _content_of(data)
        items = tables[0] if rng.random() < 0.85 else rng.choice(tables)
        for _ in range(rng.choice((1, 1, 2, 8))):
            if not items:
                break
            at, other = rng.randrange(len(items)), rng.randrange(len(items))
            (key, value), how = items[at], rng.randrange(7)
            if how == 0:
                items[at] = [key, items[other][1]]
            elif how == 1:
                items[at] = [mutated_bytes(key, rng) or b"x", value]
            elif how == 2:
                del items[at]
            elif how == 3:
                items[at] = [key, value + items[other][0]]  # another base
            elif how == 4:
                items[at] = [key, value + key]  # itself
            else:
                items[at] = [key, mutated_bytes(value, rng)]
        return cbor2.dumps(tables)

    def run(self, data: bytes) -> bool:
        tables = _content_of(data)
        store_dir = self.root / "s/.castore"
        mark = (store_dir / "index/boot").read_bytes() if (store_dir / "index/boot").exists() else b""
        shutil.rmtree(store_dir / "index")
        (store_dir / "index").mkdir()
        with self._opened() as env:
            for name, items in zip(_TABLES, tables, strict=True):
                table = env.open_db(name)
                with env.begin(write=True) as txn:
                    for key, value in items:
                        if 0 < len(key) <= 511:
                            txn.put(key, value, db=table)
        (store_dir / "index/boot").write_bytes(mark)
        good = 0
        with open_store(self.root / "s") as store:
            for name, state in self.expected.items():
                with suppress(CastoreError):
                    assert equal_states(store.load(name), state), "wrong data"
                    good += 1
            report = store.fsck(read_data=True, repair=True)
            assert report.ok, report.errors
            for name, state in self.expected.items():
                assert equal_states(store.load(name), state), "wrong data after a repair"
        return good == len(self.expected)


def _content_of(data: bytes) -> list[list[list[bytes]]]:
    found: list[list[list[bytes]]] = cbor2.loads(data)
    return found


def target(name: str) -> Target:
    return IndexTarget(Path(tempfile.mkdtemp(prefix="castore-fuzz-")))
