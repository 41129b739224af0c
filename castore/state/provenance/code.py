"""The training code: its Git commit, and what is changed in the work tree since, as `git` says."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from castore import limits
from castore.objects.provenance import CUT

TIMEOUT_S = 10.0  # for each call of git; a run does not wait longer for what is only recorded
_MAX_BYTES = limits.MAX_PROVENANCE_TEXT_BYTES - 100  # of what it prints, so that a note that it was cut has room
_MOST_UNTRACKED = 200
_FLAGS = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
_DIFF = ("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--submodule=short")
_SECRET_FILES = (".env*", "*.pem", "*.key", "id_rsa*", ".netrc", "*secrets*", "*credentials*")
# Files that are known to hold secrets: their changes are left out of the diff.
_NOT = tuple(f":(exclude,top,glob)**/{name}" for name in _SECRET_FILES)


def program_directory() -> Path:
    """Where the program lies that runs, or the current directory: of castore's own command, and of a prompt."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or Path(file).stem == "castore" or Path(file).parent.name == "castore":
        return Path.cwd()
    return Path(file).resolve().parent


def code(directory: Path | None = None) -> dict[str, str]:
    """Of the repository around `directory`: commit, branch, diff to it, names of untracked Python files.

    directory: default that of the program, else, if that is in no repository, the current one. Nothing but what git
    prints is recorded, and nothing where there is no git, no repository, or no answer in time.
    """
    places = [directory] if directory is not None else [program_directory(), Path.cwd()]
    for place in places:
        top = _git(place, "rev-parse", "--show-toplevel")
        if top:
            return _code(Path(top))
    return {}


def _code(top: Path) -> dict[str, str]:
    found = {"repository": top.name, "commit": _git(top, "rev-parse", "--verify", "-q", "HEAD")}
    if found["commit"]:
        found["branch"] = _git(top, "symbolic-ref", "-q", "--short", "HEAD")
        found["diff"] = _git(top, *_DIFF, "--", ".", *_NOT)
    names = _git(top, "ls-files", "--others", "--exclude-standard", "--", "*.py").splitlines()
    more = [f"and {len(names) - _MOST_UNTRACKED} more"] if len(names) > _MOST_UNTRACKED else []
    found["untracked"] = "\n".join(names[:_MOST_UNTRACKED] + more)
    return {name: text for name, text in found.items() if text}


def _git(directory: Path, *arguments: str) -> str:
    """What git prints, "" where it fails: then nothing is known of the code. What is too long ends at a whole line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}  # it must not write, not even its own index
    command = ["git", "-C", str(directory), *_FLAGS, *arguments]
    with tempfile.TemporaryFile() as out:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        size = out.tell() if done.returncode == 0 else 0  # the offset is shared with git
        out.seek(0)
        data = out.read(min(size, _MAX_BYTES))
    if size > _MAX_BYTES:
        data = data[: data.rfind(b"\n")]
        return data.decode("utf-8", "replace") + CUT.format(size - len(data))
    return data.decode("utf-8", "replace").rstrip("\n")
