"""Taking records that are damaged or lost here from the second directories of tiers, for fsck --repair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from castore import dtypes
from castore.chunks import pack
from castore.chunks.decode import Wanted
from castore.chunks.hashing import checksum
from castore.chunks.index import Place
from castore.codecs.choice import choose
from castore.copies import directories, opened
from castore.errors import CastoreError, CorruptError
from castore.history.audit_line import Event
from castore.maintenance.copying import Copier
from castore.objects import codec
from castore.quantities import size
from castore.repo import Repository

_NAMES = {pack.CHUNK: "chunks", pack.COMMIT: "commits"}


@dataclass(frozen=True, slots=True)
class Copies:
    """The stores in the second directories that could be opened."""

    repo: Repository
    stores: tuple[Repository, ...]

    def take(self, lost: Iterable[bytes]) -> list[str]:
        """Put records back that a copy has, durably; returns a line for each directory that gave some.

        Each is decoded there, checked against its id, and written alone: on what it stands there says nothing of what
        it may stand on here. The commits before one that was lost are looked for too.
        """
        left = set(lost)
        told = []
        for store in self.stores:
            if left and (line := _taken(self.repo, store, left)):
                told.append(line)
        return told


@contextmanager
def copied(repo: Repository) -> Iterator[Copies]:
    """The copies of a store. A directory that is gone, or holds something else, is noted."""
    with ExitStack() as stack:
        found = []
        try:
            named = directories(repo)
        except CastoreError as error:  # castore.toml says something of tiers that can't be
            repo.progress.note(str(error))
            named = {}
        for directory in named:
            try:
                store = stack.enter_context(opened(repo, directory))
            except CastoreError as error:
                repo.progress.note(str(error))
            else:
                if store.hash.name == repo.hash.name:
                    found.append(store)
        yield Copies(repo, tuple(found))


def _taken(repo: Repository, store: Repository, left: set[bytes]) -> str:
    """Take what a copy has of `left`, which loses it; what was taken, in a line, "" for nothing."""
    counts: Counter[str] = Counter()
    nbytes = 0
    with Copier(repo) as copier:
        pending = sorted(left)
        seen: set[bytes] = set()
        while pending:
            record_id = pending.pop()
            found = _record(store, record_id) if record_id not in seen else None
            seen.add(record_id)
            if found is None:
                continue
            place, raw = found
            left.discard(record_id)
            nbytes += _write(copier, record_id, place, raw)
            counts[_NAMES.get(place.kind, "objects of trees")] += 1
            if place.kind == pack.COMMIT:
                pending += _before(repo, record_id, raw, counts)
        if not counts:
            return ""
        copier.seal()
        copier.check()
        what = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        with repo.lock.held():
            repo.audit.append(Event("repair", detail=f"{what} taken from {store.path.parent}"))
            access = repo.chunks.access
            access.refresh()
            packs, records = copier.publish()
            access.index.update(packs=packs, records=records)
            access.after_update(access.index)
    return f"took {what} ({size(nbytes)}) from {store.path.parent}"


def _record(store: Repository, record_id: bytes) -> tuple[Place, bytearray] | None:
    """A record of a copy, decoded and checked; None where it has none that is good."""
    try:
        (place,) = store.chunks.places((record_id,))
        raw = bytearray(place.raw_length)
        store.chunks.decoder.decode([Wanted(record_id, place, memoryview(raw))])
    except CorruptError:
        return None
    return place, raw


def _write(copier: Copier, record_id: bytes, place: Place, raw: bytearray) -> int:
    """Write a record that stands alone; the bytes of its payload."""
    dtype = dtypes.by_code(place.dtype)
    if len(raw) % dtype.width:
        dtype = dtypes.BYTES
    encoded = choose(raw, dtype, None)
    entry = pack.Entry(
        id=record_id,
        bases=(),
        offset=0,
        length=len(encoded.payload),
        raw_length=len(raw),
        checksum=checksum(encoded.payload),
        kind=place.kind,
        codec=encoded.codec_id,
        dtype=dtype.code,
    )
    copier.append(entry, encoded.payload)
    return entry.length


def _before(repo: Repository, record_id: bytes, raw: bytearray, counts: Counter[str]) -> list[bytes]:
    """The parents of a commit that the store lacks."""
    parents = [bytes.fromhex(one) for one in codec.decode(record_id.hex(), bytes(raw)).parents]
    places = repo.chunks.access.use(lambda index: index.get_many(parents))
    return [one for one, place in zip(parents, places, strict=True) if place is None]
