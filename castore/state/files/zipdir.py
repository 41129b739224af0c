"""The directory of a zip file: which entry lies where. Only what torch writes is understood, the rest is refused.

APPNOTE.TXT 6.3.10 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from castore import limits
from castore.state.files.layout import ForeignContent
from castore.state.files.source import FileSource

MAGIC = b"PK\x03\x04"

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_MAX_COMMENT = 0xFFFF
_MAX_DIRECTORY_BYTES = 128 * limits.MAX_ZIP_ENTRIES
_IN_EXTRA_32 = 0xFFFFFFFF
_ZIP64_EXTRA = 0x0001
_ENCRYPTED = 0x0001


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One entry. header: offset of its local header. nbytes: as stored. is_stored: neither compressed nor encrypted."""

    name: str
    header: int
    nbytes: int
    is_stored: bool


@dataclass(frozen=True, slots=True)
class ZipDirectory:
    """All entries by name, and where the directory starts: no entry may reach beyond."""

    entries: dict[str, ZipEntry]
    start: int


def read_directory(source: FileSource) -> ZipDirectory:
    """Read the central directory. Raises ForeignContent for a file that is truncated or no zip as torch writes it."""
    start, nbytes, count = _locate(source)
    if count > limits.MAX_ZIP_ENTRIES or nbytes > _MAX_DIRECTORY_BYTES:
        raise ForeignContent("zip directory too large")
    if start + nbytes > source.size:
        raise ForeignContent("zip directory beyond the file")
    return ZipDirectory(_entries(source.span(start, nbytes), count), start)


def data_offset(source: FileSource, directory: ZipDirectory, entry: ZipEntry) -> int:
    """Where the bytes of a stored entry start. The local header has lengths of its own: torch pads with them."""
    name = entry.name.encode("utf-8")
    name_start = _LOCAL.size
    if entry.header + name_start + len(name) > directory.start:
        raise ForeignContent("zip entry beyond the file")
    local = source.span(entry.header, name_start + len(name))
    magic, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(local)
    if magic != MAGIC or name_bytes != len(name) or local[name_start:] != name:
        raise ForeignContent("zip entry and directory disagree")
    start = entry.header + name_start + int(name_bytes) + int(extra_bytes)
    if start + entry.nbytes > directory.start:
        raise ForeignContent("zip entry beyond the file")
    return start


def _locate(source: FileSource) -> tuple[int, int, int]:
    """Offset, length and number of entries of the central directory."""
    tail_bytes = min(source.size, _END.size + _MAX_COMMENT)
    tail_start = source.size - tail_bytes
    tail = source.span(tail_start, tail_bytes)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        raise ForeignContent("truncated: no zip directory at its end")
    _, disk, first_disk, here, count, nbytes, start, comment_bytes = _END.unpack_from(tail, at)
    if at + _END.size + comment_bytes != len(tail):
        raise ForeignContent("bytes after the end of the zip directory")
    locator_at = tail_start + at - _LOCATOR64.size
    if locator_at >= 0:
        magic, _, end64_at, _ = _LOCATOR64.unpack(source.span(locator_at, _LOCATOR64.size))
        if magic == b"PK\x06\x07":
            return _locate64(source, end64_at)
    if disk or first_disk or here != count:
        raise ForeignContent("zip of several parts")
    return start, nbytes, count


def _locate64(source: FileSource, at: int) -> tuple[int, int, int]:
    if at + _END64.size > source.size:
        raise ForeignContent("zip directory beyond the file")
    magic, _, _, _, disk, first_disk, here, count, nbytes, start = _END64.unpack(source.span(at, _END64.size))
    if magic != b"PK\x06\x06":
        raise ForeignContent("damaged zip64 directory")
    if disk or first_disk or here != count:
        raise ForeignContent("zip of several parts")
    return start, nbytes, count


def _entries(directory: bytes, count: int) -> dict[str, ZipEntry]:
    entries: dict[str, ZipEntry] = {}
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(directory):
            raise ForeignContent("damaged zip directory")
        field = _CENTRAL.unpack_from(directory, at)
        magic, flags, method, packed, nbytes = field[0], field[3], field[4], field[8], field[9]
        name_end = at + _CENTRAL.size + field[10]
        extra_end = name_end + field[11]
        if magic != b"PK\x01\x02" or extra_end + field[12] > len(directory):
            raise ForeignContent("damaged zip directory")
        try:
            name = directory[at + _CENTRAL.size : name_end].decode("utf-8")
        except UnicodeDecodeError:
            raise ForeignContent("zip entry name is not UTF-8") from None
        nbytes, packed, header = _wide(directory[name_end:extra_end], nbytes, packed, field[16])
        if name in entries:
            raise ForeignContent("two zip entries of one name")
        entries[name] = ZipEntry(name, header, nbytes, method == 0 and not flags & _ENCRYPTED and packed == nbytes)
        at = extra_end + field[12]
    return entries


def _wide(extra: bytes, *narrow: int) -> tuple[int, ...]:
    """The 64-bit values of (size, packed size, header offset): the extra field has those that didn't fit 32 bits."""
    if _IN_EXTRA_32 not in narrow:
        return narrow
    at = 0
    while at + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if tag == _ZIP64_EXTRA:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at) // 8}Q", extra, at))
            values = tuple(next(wide, -1) if value == _IN_EXTRA_32 else value for value in narrow)
            if -1 in values:
                break
            return values
        at += length
    raise ForeignContent("damaged zip64 entry")
