"""Reading a damaged pack: by its footer if that is good, else record by record, by the entry before each payload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from castore.chunks import pack
from castore.chunks.hashing import checksum
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError
from castore.limits import PAGE_BYTES

_GAP_BYTES = 2 * PAGE_BYTES  # no writer leaves as many zeros ahead of a record: see `pack`
_WINDOW_BYTES = 1 << 20


def good_records(files: PackFiles, pack_id: bytes) -> Iterator[tuple[pack.Entry, bytes]]:
    """Every record of a pack whose payload has its checksum, in the order of the file. Raises FileNotFoundError.

    The footer is believed first: it has a hash of its own, the entries before the payloads have none.
    """
    try:
        entries = files.footer(pack_id)
    except CorruptError:
        yield from intact_records(files, pack_id)
        return
    for entry in sorted(entries, key=lambda one: one.offset):
        payload = files.read(pack_id, entry.offset, entry.length)
        if checksum(payload) == entry.checksum:
            yield entry, payload


def intact_records(files: PackFiles, pack_id: bytes) -> Iterator[tuple[pack.Entry, bytes]]:
    """Every record whose entry makes sense and whose payload has its checksum, in the order of the file.

    Each is read in the format that its magic names, since the pack's own header may be damaged. After damage, and after
    zeros that a writer left, the next record is found by its magic; one that is found so inside another's payload does
    not survive its own checksum. Raises FileNotFoundError.
    """
    try:
        size = files.size(pack_id)
    except CorruptError:
        return  # a link, or a pipe: no file of ours
    at = pack.HEADER_BYTES
    while at < size:
        found = _record(files, pack_id, at, size)
        if found is not None:
            yield found
            at = found[0].offset + found[0].length
            continue
        following = _next_magic(files, pack_id, at + 1, size)
        if following is None:
            return
        at = following


def _record(files: PackFiles, pack_id: bytes, at: int, size: int) -> tuple[pack.Entry, bytes] | None:
    most = pack.RECORD_MAGIC_BYTES + max(fmt.most_entry_bytes for fmt in files.formats)
    head = files.read(pack_id, at, min(most, size - at))
    fmt = next((one for one in files.formats if head.startswith(one.record_magic)), None)
    if fmt is None:
        return None
    try:
        entry, end = fmt.parse_entry(head, pack.RECORD_MAGIC_BYTES, size)
    except CorruptError:
        return None
    entry = replace(entry, offset=at + end)
    if entry.offset + entry.length > size:
        return None
    payload = files.read(pack_id, entry.offset, entry.length)
    return (entry, payload) if checksum(payload) == entry.checksum else None


def _next_magic(files: PackFiles, pack_id: bytes, at: int, size: int) -> int | None:
    magic = re.compile(b"|".join(re.escape(fmt.record_magic) for fmt in files.formats))
    overlap = pack.RECORD_MAGIC_BYTES - 1
    length = _GAP_BYTES
    while at < size:
        window = files.read(pack_id, at, min(length + overlap, size - at))
        found = magic.search(window)
        if found is not None:
            return at + found.start()
        at, length = at + length, _WINDOW_BYTES
    return None
