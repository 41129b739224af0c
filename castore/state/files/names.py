"""Which file names a commit may hold: those that a checkout can give back on any machine without harm."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from castore import limits
from castore.errors import UnsafePathError

STORE_NAME = ".castore"

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 4096
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)( *\..*)?", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:")


def unsafe_reason(name: str) -> str:
    """Why one component of a path can't be written by a checkout, or "" when it can."""
    if name in ("", ".", ".."):
        return "empty or a dot path"
    if "/" in name or "\\" in name or "\0" in name:
        return "it contains a slash, backslash or NUL"
    if _plain(name) == STORE_NAME:
        return "a store has that name, and what is written there would be believed"
    if _DRIVE.match(name):
        return "it starts like a drive letter"
    if _DEVICE.fullmatch(name.rstrip(" .")):
        return "it is a device name on Windows"
    try:
        if len(name.encode("utf-8")) > _MAX_NAME_BYTES:
            return f"it is longer than {_MAX_NAME_BYTES} bytes"
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    return ""


def safe_parts(relative: str) -> tuple[str, ...]:
    """The components of a relative path from a tree. Raises UnsafePathError for a path that could lead elsewhere."""
    if relative.startswith("/"):
        raise UnsafePathError(f"refused to write {relative!r}: an absolute path leads outside of the target")
    parts = tuple(relative.split("/"))
    too_long = len(parts) > limits.MAX_TREE_NESTING or len(relative) > _MAX_PATH_BYTES
    if too_long:
        raise UnsafePathError(f"refused to write {relative[:80]!r}...: the path is too long")
    for part in parts:
        if reason := unsafe_reason(part):
            raise UnsafePathError(f"refused to write {relative!r}: {part!r} is unsafe as a file name, {reason}")
    return parts


def safe_join(root: Path, relative: str) -> Path:
    """`root / relative` for a path from a tree; the disk is not touched.

    Raises UnsafePathError for a path that is absolute, empty, has `..`, NUL, backslash, a drive letter or device name.
    """
    return root.joinpath(*safe_parts(relative))


def folded(parts: tuple[str, ...]) -> str:
    """What two paths have in common that are one file where file names ignore case, or how an accent is written."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", "/".join(parts)).casefold())


def _plain(name: str) -> str:
    """A name as some file systems take it: without case, without characters that nobody sees, without a last dot."""
    return "".join(char for char in folded((name,)) if unicodedata.category(char) != "Cf").rstrip(" .")
