"""Protected branches and tags: names that stay, and branches that only go forward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from castore.errors import UsageError

_BRANCHES = "refs/heads/"
_KEYS = ("branches", "tags")


@dataclass(frozen=True, slots=True)
class Protection:
    """Patterns of names: `*` stands for any characters, slashes too, `?` for one, `[...]` for one of several."""

    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> Protection:
        """The table `[protect]` of castore.toml. Raises UsageError that names what is wrong in it."""
        for key, patterns in table.items():
            if key not in _KEYS:
                raise UsageError(f"[protect] has the unknown key {key!r}; it takes {' and '.join(_KEYS)}")
            if not isinstance(patterns, list) or not all(isinstance(one, str) and one for one in patterns):
                raise UsageError(f"{key} in [protect] should be an array of patterns, not {patterns!r}")
        return cls(*(tuple(table.get(key, ())) for key in _KEYS))

    def allow_branch(self, name: str, what: str) -> None:
        """Raise UsageError, with `what` may not be done, where a branch is protected."""
        _allow("branch", name, self.branches, what)

    def allow_tag(self, name: str, what: str) -> None:
        """Raise UsageError, with `what` may not be done, where a tag is protected."""
        _allow("tag", name, self.tags, what)

    def has_branch(self, name: str) -> bool:
        """Whether a branch is protected."""
        return _pattern(name, self.branches) is not None

    def keeps_log(self, ref: str) -> bool:
        """Whether the reflog of a ref, by its full name, is kept for ever."""
        return ref.startswith(_BRANCHES) and self.has_branch(ref[len(_BRANCHES) :])


def _allow(kind: str, name: str, patterns: tuple[str, ...], what: str) -> None:
    pattern = _pattern(name, patterns)
    if pattern is not None:
        raise UsageError(
            f"{kind} {name!r} is protected by {pattern!r} in [protect] of castore.toml, and {what}; "
            "to do it all the same, take the pattern out there"
        )


def _pattern(name: str, patterns: tuple[str, ...]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
