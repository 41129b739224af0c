"""Where a commit was made: a few words about the process, without loading anything for it."""

from __future__ import annotations

import getpass
import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_SECRET = re.compile(r"(token(?![a-z])|passw|secret|credential|auth(?!or)|api[-_]?key|[-_]key$|^-*key$)", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(\w+://[^/@:\s]*):[^/@\s]+@")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_MASK = "***"
_MAX_ARGV_CHARS = 4096
_MAX_GIT_BYTES = 1 << 20


def environment(argv: Iterable[str] | None = None, directory: Path | None = None) -> dict[str, str]:
    """Python, platform, host, user, versions, arguments (secrets masked) and the Git commit of the training code.

    argv: default `sys.argv`. directory: where to look for `.git`, upward; default the current one.
    What cannot be found is left out.
    """
    found = {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "host": platform.node(),
        "user": _user(),
        "argv": " ".join(_masked(sys.argv if argv is None else argv))[:_MAX_ARGV_CHARS],
        "git": git_commit(directory or Path.cwd()),
    }
    found |= {name: _version(name) for name in ("castore", "torch", "numpy")}
    return {name: value for name, value in found.items() if value}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without an entry in passwd
        return ""


def _version(package: str) -> str:
    loaded = getattr(sys.modules.get(package), "__version__", None)
    if loaded is not None:
        return str(loaded)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _masked(argv: Iterable[str]) -> list[str]:
    """Arguments without the values of options whose names look like secrets, and without passwords in URLs."""
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("--"):
            shown.append(_MASK)
            hide_next = False
            continue
        hide_next = False
        if _SECRET.search(name) and equals:
            argument = f"{name}={_MASK}"
        elif _SECRET.search(name) and name.startswith("-"):
            hide_next = True
        shown.append(_URL_PASSWORD.sub(rf"\1:{_MASK}@", argument))
    return shown


def git_commit(directory: Path) -> str:
    """The commit that HEAD of the work tree around `directory` names, "" if there is none. Reads files; runs no git."""
    for place in (directory, *directory.parents):
        git = place / ".git"
        try:
            if git.is_file():  # a linked work tree or a submodule
                git = place / _read(git).removeprefix("gitdir:").strip()
            if git.is_dir():
                return _head(git)
        except OSError:
            return ""
    return ""


def _head(git: Path) -> str:
    head = _read(git / "HEAD").strip()
    if not head.startswith("ref:"):
        return head if _COMMIT.fullmatch(head) else ""
    name = head.removeprefix("ref:").strip()
    if ".." in name.split("/") or name.startswith("/"):
        return ""
    common = git / _read(git / "commondir").strip() if (git / "commondir").is_file() else git
    for base in (git, common):
        if (base / name).is_file():
            commit = _read(base / name).strip()
            return commit if _COMMIT.fullmatch(commit) else ""
    if (common / "packed-refs").is_file():
        for line in _read(common / "packed-refs").splitlines():
            commit, _, ref = line.partition(" ")
            if ref == name and _COMMIT.fullmatch(commit):
                return commit
    return ""


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_GIT_BYTES).decode("utf-8", "replace")
