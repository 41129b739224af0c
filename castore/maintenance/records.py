"""Reading every byte of a pack, and saying which records are damaged. What fsck and scrub do with that is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from castore.chunks import pack
from castore.chunks.hashing import checksum
from castore.errors import CorruptError
from castore.maintenance.reports import FsckError
from castore.repo import Repository


@dataclass(frozen=True, slots=True)
class CheckedRecord:
    """A record that was read. end: the first byte after it. read_bytes: of its header and payload.

    error: None for a good one. lost: whether the damage is to what is read when the record is asked for; else its
    header alone is wrong, or another pack has a copy, which is used.
    """

    id: bytes
    end: int
    read_bytes: int
    error: FsckError | None = None
    lost: bool = False


def pack_name(pack_id: bytes) -> str:
    """The name of a pack's file."""
    return f"{pack_id.hex()}.pack"


def check_records(
    repo: Repository, pack_id: bytes, entries: list[pack.Entry], start: int = 0
) -> Iterator[CheckedRecord]:
    """Read the records of a pack that end after `start`, in their order, headers included. Raises FileNotFoundError."""
    try:
        fmt = repo.chunks.files.format_of(pack_id)
    except CorruptError:
        fmt = repo.chunks.files.format  # whoever looked for the footer has said so
    for entry in sorted(entries, key=lambda one: one.offset):
        end = entry.offset + entry.length
        if end <= start:
            continue
        head_bytes = fmt.record_header_bytes(len(entry.bases))
        try:
            head = repo.chunks.files.read(pack_id, entry.offset - head_bytes, head_bytes)
            payload = repo.chunks.files.read(pack_id, entry.offset, entry.length)
            problem = "" if checksum(payload) == entry.checksum else "the payload's checksum is wrong"
        except CorruptError as error:  # truncated
            head = payload = b""
            problem = str(error)
        read_bytes = len(head) + len(payload)
        if problem:
            place = repo.chunks.access.index.get(entry.id)
            lost = place is None or place.pack == pack_id
            yield CheckedRecord(entry.id, end, read_bytes, FsckError(problem, pack_name(pack_id), entry.id.hex()), lost)
        elif head != fmt.record_header(entry):
            problem = "the entry before the payload differs from the footer's (the record itself is good)"
            yield CheckedRecord(entry.id, end, read_bytes, FsckError(problem, pack_name(pack_id), entry.id.hex()))
        else:
            yield CheckedRecord(entry.id, end, read_bytes)
