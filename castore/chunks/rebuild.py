"""Making the index from the packs: after a reboot, when it is missing, damaged, or lacks a pack that lies there.

A pack may hold dead records whose bases gc took away, and one id may lie in several packs, so not every record that a
footer lists may enter the index: a record is taken when it stands alone or its base was taken. That way the links
between records can never form a circle, whatever copies lie around.
"""

from __future__ import annotations

from collections.abc import Iterable

from castore.chunks import pack
from castore.chunks.index import Index, Place
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError
from castore.progress import Progress


def add_packs(index: Index, files: PackFiles, pack_ids: Iterable[bytes], progress: Progress) -> list[str]:
    """Enter packs that the index does not know; returns a line for each that could not be read.

    Call with the store's lock held. Memory is bounded by the records of the deltas whose base has not been met yet.
    """
    ids = list(pack_ids)
    damaged: list[str] = []
    waiting: dict[bytes, list[tuple[bytes, Place]]] = {}
    progress.start("Rebuilding the index", len(ids), "packs")
    for pack_id in ids:
        try:
            entries = files.footer(pack_id)
            size = files.size(pack_id)
        except CorruptError as error:
            damaged.append(f"pack {pack_id.hex()}: {error}")
            progress.note(f"pack {pack_id.hex()} is left out of the index: {error}; run `castore fsck --repair`")
        else:
            _take(index, pack_id, size, entries, waiting)
        progress.advance(1)
    progress.finish()
    return damaged


def _take(
    index: Index, pack_id: bytes, size: int, entries: list[pack.Entry], waiting: dict[bytes, list[tuple[bytes, Place]]]
) -> None:
    """Enter the records of one pack, and those of earlier packs that were waiting for one of them."""
    known = {entry.id for entry, place in zip(entries, index.get_many([e.id for e in entries]), strict=True) if place}
    bases = {entry.base for entry in entries if entry.base}
    present = {base for base, place in zip(bases, index.get_many(list(bases)), strict=True) if place}
    taken: dict[bytes, Place] = {}
    ready = []
    for entry in entries:
        place = Place.of(pack_id, entry)
        if not entry.base or entry.base in present:
            ready.append((entry.id, place))
        else:
            waiting.setdefault(entry.base, []).append((entry.id, place))
    while ready:
        record_id, place = ready.pop()
        if record_id in known or record_id in taken:
            continue
        taken[record_id] = place
        # What waited in an earlier pack may have been found elsewhere since; a second place could close a circle.
        ready.extend((one, at) for one, at in waiting.pop(record_id, ()) if index.get(one) is None)
    index.update(packs=[(pack_id, size)], records=sorted(taken.items()))
