"""Which file system a path lies on."""

from __future__ import annotations

from pathlib import Path

import pytest

from castore import _fs

HEAD = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


@pytest.mark.parametrize(
    ("lines", "path", "kind"),
    [
        ("", "/data/x", None),
        ("44 22 0:40 / /data rw shared:2 - nfs4 srv:/x rw", "/data/x", "nfs4"),
        ("44 22 0:40 / /data rw shared:2 - nfs4 srv:/x rw", "/database/x", None),
        ("44 22 0:40 / /data rw - cifs //srv/x rw", "/data", "cifs"),
        ("44 22 0:40 / /data rw shared:2 master:3 - fuse.sshfs u@h:/ rw", "/data/x", "fuse.sshfs"),
        ("44 22 0:40 / /data rw - nfs srv:/x rw\n45 44 8:2 / /data/local rw - xfs /dev/sdb rw", "/data/local/x", None),
        ("44 22 0:40 / /data rw - ext4 /dev/sdb rw\n45 44 0:41 / /data rw - nfs srv:/x rw", "/data/x", "nfs"),
        (r"44 22 0:40 / /my\040data rw - nfs srv:/x rw", "/my data/x", "nfs"),
        (r"44 22 0:40 / /back\134slash rw - nfs srv:/x rw", "/back\\slash/x", "nfs"),
        ("44 22 0:40 / /données rw - nfs srv:/x rw", "/données/x", "nfs"),
        ("garbage\n44\n\n44 22 0:40 / /data rw -", "/data/x", None),
    ],
)
def test_the_innermost_mount_counts(
    lines: str, path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(HEAD + lines + "\n", "utf-8")
    monkeypatch.setattr(_fs, "MOUNTS", mounts)
    assert _fs.network_file_system(Path(path)) == kind


def test_a_mount_whose_name_is_no_text_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_bytes(HEAD.encode() + b"44 22 0:40 / /\xff\xfe rw - nfs srv:/x rw\n")
    monkeypatch.setattr(_fs, "MOUNTS", mounts)
    assert _fs.network_file_system(Path("/home")) is None


def test_where_nothing_tells_a_file_system_counts_as_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fs, "MOUNTS", tmp_path / "missing")
    assert _fs.network_file_system(tmp_path) is None
    monkeypatch.undo()
    assert _fs.network_file_system(Path("/proc/self")) is None
