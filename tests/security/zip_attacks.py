"""Zip files whose directory lies. `python -m tests.security.zip_attacks DIR` writes each as a file."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from .pickle_payloads import in_zip, tensor

_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
PACKED, SIZE, NAME_BYTES, EXTRA_BYTES, HEADER = 8, 9, 10, 11, 16


def honest() -> bytes:
    pickle = b"\x80\x02" + tensor(b"0") + tensor(b"1") + b"\x86."
    return in_zip(pickle, {"0": b"a" * 64, "1": b"b" * 64})


def with_field(index: int, value: int, name: bytes = b"archive/data/1") -> bytes:
    """The honest file with one field of an entry in the directory changed."""
    data = bytearray(honest())
    at = data.index(b"PK\x01\x02")
    while True:
        fields = list(_CENTRAL.unpack_from(data, at))
        start = at + _CENTRAL.size
        if data[start : start + fields[NAME_BYTES]] == name:
            fields[index] = value
            if index == SIZE:
                fields[PACKED] = value
            _CENTRAL.pack_into(data, at, *fields)
            return bytes(data)
        at = start + fields[NAME_BYTES] + fields[EXTRA_BYTES] + fields[12]


def with_end(change: Callable[[list[int]], None]) -> bytes:
    """The honest file with its end record changed."""
    data = bytearray(honest())
    at = data.rindex(b"PK\x05\x06")
    magic, *fields = _END.unpack_from(data, at)
    change(fields)
    _END.pack_into(data, at, magic, *fields)
    return bytes(data)


def _set(index: int, value: int) -> Callable[[list[int]], None]:
    def change(fields: list[int]) -> None:
        fields[index] = value

    return change


def _no_entries(fields: list[int]) -> None:
    fields[2] = fields[3] = 0


def _twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in ("archive/data.pkl", "archive/data/0", "archive/data/0"):
            archive.writestr(
                zipfile.ZipInfo(name), b"\x80\x02" + tensor() + b"." if name.endswith("pkl") else bytes(64)
            )
    return out.getvalue()


def _zip64_loop() -> bytes:
    data = honest()
    at = data.rindex(b"PK\x05\x06")
    return data[:at] + struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1) + data[at:]


def attacks() -> dict[str, bytes]:
    first = honest().index(b"PK\x03\x04")
    return {
        "overlapping entries": with_field(HEADER, first),
        "size beyond the file": with_field(SIZE, 1 << 30),
        "size into the next entry": with_field(SIZE, 200, b"archive/data/0"),
        "size of 4 GiB without zip64": with_field(SIZE, 0xFFFFFFFF),
        "header beyond the file": with_field(HEADER, 1 << 30),
        "header in the directory": with_field(HEADER, len(honest()) - 40),
        "name of 64 KiB": with_field(NAME_BYTES, 0xFFFF),
        "encrypted": with_field(3, 1),
        "compressed": with_field(4, 8),
        "a million entries": with_end(_set(3, 0xFFFF)),
        "no entries": with_end(_no_entries),
        "directory beyond the file": with_end(_set(5, 0xFFFFFFF0)),
        "directory of 4 GiB": with_end(_set(4, 0xFFFFFFF0)),
        "several disks": with_end(_set(0, 7)),
        "comment beyond the file": with_end(_set(6, 100)),
        "entry twice": _twice(),
        "zip64 end is no such thing": _zip64_loop(),
        "bytes after the end": honest() + b"tail",
        "only an end": b"PK\x03\x04" + _END.pack(b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0),
    }


if __name__ == "__main__":
    for name, data in attacks().items():
        (Path(sys.argv[1]) / f"{name}.pt").write_bytes(data)
