"""Whether the index says what the footers of the packs say: it is never synced and has no checksums of its own."""

from __future__ import annotations

from collections.abc import Collection

from castore.chunks.index import Index
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError


def agrees(index: Index, files: PackFiles, missing: Collection[bytes] = ()) -> bool:
    """Whether every place of the index stands in a footer, and none of the records that are `missing` does, unless it
    can't be in the index since a base of it is lost.

    Reads all footers, one at a time. A pack whose footer is damaged, or that is gone, is believed to be as the index
    has it.
    """
    there = list(files.ids())
    sound, unread = 0, index.packs().keys() - set(there)
    for pack_id in there:
        try:
            entries = files.footer(pack_id)
        except (CorruptError, FileNotFoundError):
            unread.add(pack_id)
            continue
        places = index.get_many([entry.id for entry in entries])
        for entry, place in zip(entries, places, strict=True):
            if place is None and entry.id in missing and None not in index.get_many(entry.bases):
                return False
            sound += place is not None and place.pack == pack_id and place.entry(entry.id) == entry
    if unread:
        sound += sum(1 for _ in index.in_packs(unread))
    return sound == index.count()
