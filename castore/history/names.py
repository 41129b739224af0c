"""Which names a branch or a tag may have: Git's rules, and a little more so that a store can move between systems.

The rules of Git are those of https://git-scm.com/docs/git-check-ref-format. Stricter here: no `HEAD`, no leading `-`
(an option to every command), nothing that reads as a full commit id, no device name of Windows, no character that
nobody sees or that steers a terminal, bounded length.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from castore import limits
from castore.errors import RefExistsError, RefNameError

# A file name holds 255 bytes on the file systems in use, and `_fs.replace` writes `.NAME.PID.NANOSECONDS.tmp` first.
MAX_COMPONENT_BYTES = 200

_FULL_ID = re.compile(r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{32})?")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")
_UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Zs")  # controls, such as those that turn the direction of a text, and blanks
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?:\..*)?", re.IGNORECASE | re.DOTALL
)


def check_name(name: str) -> None:
    """Check a branch's or tag's name (without `refs/heads/`). Raises RefNameError that says which rule it breaks."""
    rule = _broken_rule(name)
    if rule is not None:
        shown = name if len(name) <= 80 else name[:77] + "..."
        raise RefNameError(f"{shown!r} is not a valid ref name: {rule}; choose another name")


def is_valid_name(name: str) -> bool:
    """Whether `check_name` accepts the name."""
    return _broken_rule(name) is None


def check_unique(name: str, existing: Iterable[str]) -> None:
    """Check that a new ref `name` can live beside the `existing` ones of its kind. Raises RefExistsError.

    Names are compared case-folded: on a file system that ignores case they would be one file. `a` and `a/b` exclude
    each other, because one is a file and the other a file in a directory of that name.
    """
    folded = _fold(name)
    for other in existing:
        folded_other = _fold(other)
        if folded_other == folded:
            how = "exists already" if other == name else f"differs from the existing {other!r} only in case"
            raise RefExistsError(f"{name!r} {how}; choose another name, or delete that one first")
        if folded_other.startswith(folded + "/") or folded.startswith(folded_other + "/"):
            raise RefExistsError(
                f"{name!r} cannot exist beside {other!r}: one would be a directory of the other's name; "
                "choose another name, or delete that one first"
            )


def _broken_rule(name: str) -> str | None:
    try:
        raw = name.encode("utf-8")
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not name:
        return "it is empty"
    if len(raw) > limits.MAX_REF_NAME_BYTES:
        return f"it is longer than {limits.MAX_REF_NAME_BYTES} bytes"
    if found := _FORBIDDEN.search(name):
        return f"it contains {found.group()!r}"
    if unseen := next((char for char in name if unicodedata.category(char) in _UNSEEN), None):
        return f"it contains {unseen!a}, which nobody sees"
    for sequence in ("..", "@{"):
        if sequence in name:
            return f"it contains {sequence!r}"
    if name in ("@", "HEAD"):
        return "that name is reserved"
    if name.startswith("-"):
        return "it starts with '-'"
    if name.endswith("."):
        return "it ends with '.'"
    if _FULL_ID.fullmatch(name):
        return "it reads as a commit id"
    return next(filter(None, map(_broken_component_rule, name.split("/"))), None)


def _broken_component_rule(component: str) -> str | None:
    if not component:
        return "it has a leading, trailing or double '/'"
    if component.startswith("."):
        return "a part of it starts with '.'"
    if component.endswith(".lock"):
        return "a part of it ends with '.lock'"
    if len(component.encode("utf-8")) > MAX_COMPONENT_BYTES:
        return f"a part of it is longer than {MAX_COMPONENT_BYTES} bytes"
    if _DEVICE.fullmatch(component):
        return f"{component!r} is a device name on Windows"
    return None


def _fold(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
