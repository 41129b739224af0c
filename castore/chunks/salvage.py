"""Reading a damaged pack: by its footer if that is good, else record by record, by the entry before each payload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from castore.chunks import pack
from castore.chunks.hashing import checksum
from castore.chunks.reader import PackFiles
from castore.errors import CorruptError

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

    After damage the next record is found by its magic; one that is found so inside another's payload does not survive
    its own checksum. Raises FileNotFoundError.
    """
    fmt = files.format
    size = files.size(pack_id)
    at = pack.HEADER_BYTES
    while at + fmt.record_header_bytes <= size:
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
    fmt = files.format
    head = files.read(pack_id, at, fmt.record_header_bytes)
    if not head.startswith(pack.RECORD_MAGIC):
        return None
    try:
        entry = fmt.parse_entry(head[len(pack.RECORD_MAGIC) :], size)
    except CorruptError:
        return None
    entry = replace(entry, offset=at + fmt.record_header_bytes)
    if entry.offset + entry.length > size:
        return None
    payload = files.read(pack_id, entry.offset, entry.length)
    return (entry, payload) if checksum(payload) == entry.checksum else None


def _next_magic(files: PackFiles, pack_id: bytes, at: int, size: int) -> int | None:
    overlap = len(pack.RECORD_MAGIC) - 1
    while at < size:
        window = files.read(pack_id, at, min(_WINDOW_BYTES + overlap, size - at))
        found = window.find(pack.RECORD_MAGIC)
        if found >= 0:
            return at + found
        at += _WINDOW_BYTES
    return None
