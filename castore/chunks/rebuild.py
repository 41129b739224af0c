"""Making the index from the packs: after a reboot, when it is missing, damaged, or lacks a pack that lies there.

A pack may hold dead records whose bases gc took away, and one id may lie in several packs, so not every record that a
footer lists may enter the index: a record is taken when it stands alone or all its bases were taken. That way the links
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

    Call with the store's lock held. Memory is bounded by the deltas that wait for a base which has not been met yet.
    """
    ids = list(pack_ids)
    damaged: list[str] = []
    waiting: dict[bytes, list[tuple[bytes, Place]]] = {}  # base -> the records that lack it, and maybe others
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
    named = sorted({one for entry in entries for one in (entry.id, *entry.bases)})
    in_index = {one: place is not None for one, place in zip(named, index.get_many(named), strict=True)}
    taken: dict[bytes, Place] = {}

    def is_there(record_id: bytes) -> bool:
        if record_id in taken:
            return True
        found = in_index.get(record_id)
        if found is None:  # named by a record that waited since an earlier pack
            found = in_index[record_id] = index.get(record_id) is not None
        return found

    ready = [(entry.id, Place.of(pack_id, entry)) for entry in entries]
    while ready:
        record_id, place = ready.pop()
        if is_there(record_id):
            continue  # a second place could close a circle
        missing = next((base for base in place.bases if not is_there(base)), None)
        if missing is not None:
            waiting.setdefault(missing, []).append((record_id, place))
            continue
        taken[record_id] = place
        ready.extend(waiting.pop(record_id, ()))
    index.update(packs=[(pack_id, size)], records=sorted(taken.items()))
