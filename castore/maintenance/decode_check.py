"""Decoding every record of a store, and saying which can't be."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from types import MappingProxyType

from castore.chunks.decode import Wanted
from castore.chunks.index import Place
from castore.errors import CorruptError
from castore.limits import MIB
from castore.maintenance.records import pack_name
from castore.maintenance.reports import FsckError
from castore.repo import Repository

NOTHING_KNOWN: Mapping[bytes, FsckError] = MappingProxyType({})


def undecodable(repo: Repository, known: Mapping[bytes, FsckError] = NOTHING_KNOWN) -> dict[bytes, FsckError]:
    """Decode every record of the index and hash what comes out: those that fail, but not for a base that fails.

    known: records that are damaged for certain.
    """
    items = repo.chunks.access.index.items()
    repo.progress.start("Decoding", repo.chunks.access.index.count(), "records")

    def work(batch: list[tuple[bytes, Place]]) -> list[tuple[bytes, FsckError]]:
        return [bad for bad in (_decoded(repo, one, place) for one, place in batch) if bad is not None]

    failed = {one: error for found in repo.chunks.pool.map(work, _batches(items)) for one, error in found}
    repo.progress.finish()
    failed.update(known)
    return {**known, **{one: error for one, error in failed.items() if not _fails_by_base(repo, one, failed)}}


def by_pack(bad: Mapping[bytes, FsckError]) -> dict[bytes, set[bytes]]:
    """Damaged records by the pack in which they are. Copies in other packs are none of their business."""
    found: dict[bytes, set[bytes]] = {}
    for record_id, error in bad.items():
        found.setdefault(bytes.fromhex(error.pack.removesuffix(".pack")), set()).add(record_id)
    return found


def _fails_by_base(repo: Repository, record_id: bytes, failed: Container[bytes]) -> bool:
    """Whether a record can't be decoded only because a base below it can't: it is good itself, and stays."""
    index = repo.chunks.access.index
    seen = {record_id}
    level = [record_id]
    while level:
        places = [place for place in index.get_many(level) if place is not None]
        level = list({base for place in places for base in place.bases} - seen)
        if any(base in failed for base in level):
            return True
        seen.update(level)
    return False


def _decoded(repo: Repository, record_id: bytes, place: Place) -> tuple[bytes, FsckError] | None:
    out = repo.chunks.decoder.scratch("fsck", place.raw_length)
    try:
        repo.chunks.decoder.decode([Wanted(record_id, place, out)])
    except CorruptError as error:
        if repo.chunks.access.index.get(record_id) != place:
            return None  # gc swept it since it was listed, or a commit has put it anew
        return record_id, FsckError(str(error), pack_name(place.pack), record_id.hex())
    finally:
        repo.progress.advance(1)
    return None


def _batches(items: Iterator[tuple[bytes, Place]]) -> Iterator[list[tuple[bytes, Place]]]:
    batch: list[tuple[bytes, Place]] = []
    size = 0
    for item in items:
        batch.append(item)
        size += item[1].raw_length
        if size >= MIB or len(batch) == 128:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
