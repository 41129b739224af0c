"""Revision syntax: what a person types, as a typed value. Pure; what it means in a store is `revision.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from castore.errors import RevisionError

MAX_TEXT = 4096

_NAME = re.compile(r"(?:(?!@\{)[^~^:])*")
_REFLOG = re.compile(r"@\{([0-9]{1,9})\}")
_ANCESTOR = re.compile(r"~([0-9]{0,9})")
_PARENT = re.compile(r"\^([0-9]{0,9})")
_STEP = re.compile(r":step=([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Ancestor:
    """`~N`: N times the first parent."""

    generations: int

    def __str__(self) -> str:
        return f"~{self.generations}"


@dataclass(frozen=True, slots=True)
class Parent:
    """`^N`: the N-th parent, from 1; `^0` is the commit itself."""

    number: int

    def __str__(self) -> str:
        return f"^{self.number}"


@dataclass(frozen=True, slots=True)
class AtStep:
    """`:step=N`: the newest commit with that training step, of the commit and all before it."""

    step: int

    def __str__(self) -> str:
        return f":step={self.step}"


Suffix = Ancestor | Parent | AtStep


@dataclass(frozen=True, slots=True)
class Revision:
    """A parsed revision. str() spells it in full: `main~` is `main~1`, `@` is `HEAD`.

    name: ref, id or id prefix; "" for the branch that HEAD follows (in `@{N}`). reflog: N of `@{N}`, else None.
    """

    name: str
    reflog: int | None = None
    suffixes: tuple[Suffix, ...] = ()

    def __str__(self) -> str:
        log = f"@{{{self.reflog}}}" if self.reflog is not None else ""
        return self.name + log + "".join(map(str, self.suffixes))


def parse(text: str) -> Revision:
    """Parse a revision. Raises RevisionError where it is none.

    REV: (NAME | ID | HEAD | @) [@{N}] or @{N}, then any of ~[N], ^[N], :step=N.
    """
    if len(text) > MAX_TEXT:
        raise RevisionError(f"a revision of {len(text)} characters; at most {MAX_TEXT} are read")
    name_match = _NAME.match(text)
    name = name_match.group() if name_match else ""
    end = len(name)
    reflog = None
    if found := _REFLOG.match(text, end):
        reflog, end = int(found[1]), found.end()
    if not name and reflog is None:
        raise RevisionError(_explain(text, 0) if text else "an empty revision; name a branch, a tag, an id or HEAD")
    suffixes = []
    while end < len(text):
        suffix, end = _suffix(text, end)
        suffixes.append(suffix)
    return Revision("HEAD" if name == "@" else name, reflog, tuple(suffixes))


def _suffix(text: str, start: int) -> tuple[Suffix, int]:
    if found := _ANCESTOR.match(text, start):
        return Ancestor(int(found[1] or 1)), found.end()
    if found := _PARENT.match(text, start):
        return Parent(int(found[1] or 1)), found.end()
    if found := _STEP.match(text, start):
        return AtStep(int(found[1])), found.end()
    raise RevisionError(_explain(text, start))


def _explain(text: str, start: int) -> str:
    rest = text[start : start + 40]
    if rest.startswith("@{"):
        what = "@{N} takes a number and stands right after a branch or HEAD"
    elif rest.startswith(":"):
        what = "after ':' only step=N is known, N a training step"
    else:
        what = "write REV, REV~N, REV^N, REV@{N} or REV:step=N"
    return f"cannot read the revision {text[:80]!r} from {rest!r} on: {what}"
