"""Whole packs in a store: opened, indexed, loaded, checked out, checked and repaired."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import torch

from castore import codecs, config, limits
from castore.chunks import pack
from castore.chunks.writer import pack_path
from castore.errors import CastoreError
from castore.repo import create
from castore.store import Store
from castore.store import open as open_store
from castore.testing.states import equal_states
from tests.fuzz.footers import FORMATS, HASH, Record, assembled, disassembled, mutated_entry
from tests.fuzz.mutations import mutated_bytes
from tests.fuzz.objects import mutated_cbor
from tests.fuzz.target import LMDB_BYTES, MIB, Target

_MOST_BYTES = 16 * MIB  # of a state that is loaded here


def plain(store: Store) -> list[Record]:
    """All records of a store; objects raw, so that what they hold can be changed."""
    repo = store._repo
    found = []
    for pack_id in repo.chunks.files.ids():
        for entry in repo.chunks.files.footer(pack_id):
            payload = repo.chunks.files.read(pack_id, entry.offset, entry.length)
            if entry.kind != pack.CHUNK:
                payload = repo.chunks.chunk(entry.id)
                entry = replace(entry, codec=codecs.RAW)
            found.append((entry, payload))
    return found


def small_store(root: Path) -> Store:
    """A few commits: of states, with deltas, and of files."""
    store = open_store(root, create=True)
    base = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    for step in range(3):
        weight = base + 1e-4 * step
        store.commit(
            {"w": weight, "half": weight[:500].bfloat16(), "n": step, "tied": [weight[:9], weight[:9]]}, step=step
        )
    (root / "f").mkdir()
    torch.save({"w": base[:100]}, root / "f" / "m.pt")
    (root / "f" / "note.txt").write_bytes(b"note " * 100)
    store.commit_files([root / "f"], branch="files")
    return store


@dataclass(frozen=True)
class PackTarget:
    root: Path
    growth_bytes: int = 384 * MIB
    mapped_bytes: int = LMDB_BYTES

    def seeds(self) -> Sequence[bytes]:
        with small_store(self.root / "seed") as store:
            records = plain(store)
        one = [(entry, payload) for entry, payload in records if len(entry.bases) <= 1]
        return [assembled(FORMATS[0], records), assembled(FORMATS[1], one)]

    def mutated(self, data: bytes, rng: Random) -> bytes:
        found = disassembled(data)
        if found is None or not found[1]:
            return mutated_bytes(data, rng)
        fmt, records = found
        ids = [entry.id for entry, _ in records] + [bytes(16), rng.randbytes(16)]
        for _ in range(rng.choice((1, 1, 2))):
            at = rng.randrange(len(records))
            entry, payload = records[at]
            how = rng.randrange(6)
            if how == 0:
                records[at] = mutated_entry(entry, ids, rng, 1 if fmt.version == 1 else limits.MAX_BASES), payload
            elif how == 1:
                records[at] = entry, mutated_bytes(payload, rng)
            elif how == 2:
                records.append((entry, mutated_bytes(payload, rng)))
            elif entry.codec == codecs.RAW and not entry.bases:
                new = mutated_bytes(payload, rng) if entry.kind == pack.CHUNK else mutated_cbor(payload, rng)
                records = renamed(records, at, new[: 4 * MIB])
        return assembled(fmt, records, rng if rng.random() < 0.2 else None)

    def run(self, data: bytes) -> bool:
        found = disassembled(data)
        pack_id = data[-24:-8] if len(data) >= 24 else bytes(16)
        path = self.root / "store"
        shutil.rmtree(path, ignore_errors=True)
        create(path, config.Config(uuid="u"))
        packed = pack_path(path / "packs", pack_id)
        packed.parent.mkdir()
        packed.write_bytes(data)
        commits = [entry.id.hex() for entry, _ in (found[1] if found else []) if entry.kind == pack.COMMIT]
        for number, commit in enumerate(dict.fromkeys(commits)):
            (path / "refs/heads" / f"b{number}").write_text(f"{commit}\n")
        with open_store(path) as store:
            return use(store, self.root / "out")


def use(store: Store, out: Path) -> bool:
    """All that a person may do with a store that somebody gave them. Returns whether any state was loaded."""
    loaded = 0
    for name in store.branches():
        with suppress(CastoreError):
            commit = store.show(name)
            list(store.log(name))
            if sum(one.raw_bytes for one in store.entries(name)) <= _MOST_BYTES:
                state = store.load(name)
                assert equal_states(state, store.load(name)), "two loads differ"
                loaded += 1
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                with suppress(CastoreError):
                    store.checkout(name, out / "inside" / "x")
                assert [one.name for one in out.iterdir()] in ([], ["inside"]), "wrote outside of the target"
                with suppress(CastoreError):
                    store.diff(name, commit.parents[0] if commit.parents else name)
    with suppress(CastoreError):
        store.fsck(read_data=True, repair=True)
    with suppress(CastoreError):
        store.gc()
    return loaded > 0


def renamed(records: list[Record], at: int, new: bytes) -> list[Record]:
    """Another raw record in a place, and its new id wherever the old one stood."""
    found, pending = list(records), [(at, new)]
    for _ in range(4 * len(records)):  # bounded: a mutation may have put an id where it makes this go on for ever
        if not pending:
            break
        number, data = pending.pop()
        entry, _ = found[number]
        new_id = HASH.digest(data)
        found[number] = replace(entry, id=new_id, raw_length=len(data)), data
        if new_id == entry.id:
            continue
        for other, (above, payload) in enumerate(found):
            if entry.id in above.bases:
                found[other] = (
                    replace(above, bases=tuple(new_id if one == entry.id else one for one in above.bases)),
                    payload,
                )
            if other != number and entry.id in payload and above.kind != pack.CHUNK and above.codec == codecs.RAW:
                pending.append((other, payload.replace(entry.id, new_id)))
    return found


def target(name: str) -> Target:
    return PackTarget(Path(tempfile.mkdtemp(prefix="castore-fuzz-")))
