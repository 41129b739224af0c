"""Mounts of a process's own, which nobody else sees, where the kernel lets it have them: root, or whoever may make a
user namespace. Many containers allow neither. Linux only: unshare(2), mount(2)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from tests.processes import answer

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER
_READ_ONLY, _REMOUNT, _BIND, _ALL_BELOW, _PRIVATE = 1, 32, 4096, 16384, 1 << 18

_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> bool:
    """Let this process, which must have one thread, see mounts that it makes itself. False: the kernel forbids it."""
    if answer(_become_apart) != "done":
        return False
    _become_apart()
    return True


def _become_apart() -> str:
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(_NEW_MOUNTS) != 0:
        if _libc.unshare(_NEW_MOUNTS | _NEW_USERS) != 0:
            return "forbidden"
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount("none", Path("/"), "", _ALL_BELOW | _PRIVATE)
    return "done"


def mount_read_only(path: Path) -> None:
    """Let all below a directory be on a file system that is mounted read-only."""
    kept = os.statvfs(path).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)  # only root may drop these
    _mount(str(path), path, "", _BIND)
    _mount("none", path, "", _REMOUNT | _BIND | _READ_ONLY | kept)


def mount_small_disk(path: Path, size_bytes: int) -> None:
    """Mount an empty file system of a size on a directory."""
    _mount("none", path, "tmpfs", 0, f"size={size_bytes}")


def _mount(source: str, target: Path, kind: str, flags: int, data: str = "") -> None:
    words = [source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()]
    if _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[4]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))
