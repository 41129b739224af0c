"""Tiers: named kinds of commits. Each says what goes in, how often, how long it is kept, how deep its deltas may go,
and in which second directory copies lie. From castore.toml's tables `[tiers.NAME]`, else the three that there are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from castore import limits
from castore.errors import UsageError
from castore.objects import nodes
from castore.objects.patterns import matches
from castore.retention.of_tier import of_tier
from castore.retention.registry import FORMS
from castore.retention.rules import Rules

AUTO = "auto"  # no tier's name: it asks for the one that is due
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OWN = ("include", "exclude", "every_steps", "every_seconds", "max_depth", "directory")
_RULES = tuple(key for key in FORMS if key != "keep_tier")

DEFAULT: Mapping[str, Mapping[str, Any]] = {
    "recovery": {"exclude": ["analysis"], "keep_last": 5},
    "milestone": {"every_steps": 100, "keep_last": 50, "max_depth": 4},
    "archive": {"every_steps": 1000, "max_depth": 8},
}


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier.

    include, exclude: patterns of paths, as `only=` takes them; without any of `include`, all goes in that is not
    excluded. every_steps, every_seconds: when a training loop's commit is of this tier; with neither, whenever it is of
    no other. rules: how long; they look at commits of this tier alone. max_depth: deltas on top of each other, at most;
    None: as the store says. directory: where copies lie, as castore.toml has it; None: nowhere.
    """

    name: str
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    every_steps: int | None = None
    every_seconds: float | None = None
    rules: Rules = field(default_factory=Rules)
    max_depth: int | None = None
    directory: str | None = None

    def lets_in(self, *paths: nodes.Path) -> bool:
        """Whether what is at a path goes in. paths: the ways to write it."""
        wanted = not self.include or any(matches(path, self.include) for path in paths)
        return wanted and not self.shuts_out(*paths)

    def shuts_out(self, *paths: nodes.Path) -> bool:
        """Whether a path and all below it is left out."""
        return any(matches(path, self.exclude) for path in paths)


@dataclass(frozen=True, slots=True)
class Tiers:
    """all: from the lowest to the highest, as castore.toml lists them; the lowest holds what a restart needs.

    given: whether castore.toml has any. Where it has none, any other name may be given to a commit too.
    """

    all: tuple[Tier, ...]
    given: bool

    @property
    def lowest(self) -> Tier:
        return self.all[0]

    def get(self, name: str | None) -> Tier | None:
        """The tier of a name; None where nothing is said of it."""
        return next((tier for tier in self.all if tier.name == name), None)

    def named(self, name: str | None) -> Tier | None:
        """The same, for a name that a commit is to have. Raises UsageError where castore.toml has others only."""
        found = self.get(name)
        if name is None or found is not None:
            return found
        if self.given:
            raise UsageError(f"there is no tier {name!r}; castore.toml has: {', '.join(one.name for one in self.all)}")
        if not _NAME.fullmatch(name) or name == AUTO:
            raise UsageError(f"{name[:80]!r} can't name a tier: letters, digits, '.', '_' and '-', 64 at most")
        return None

    def max_depth(self, name: str | None) -> int | None:
        """How deep deltas of a tier's commits may go; None: as the store says."""
        found = self.get(name)
        return None if found is None else found.max_depth

    @property
    def rules(self) -> Rules:
        """The rules of all tiers together, each for its own commits."""
        found = Rules()
        for tier in self.all:
            found += of_tier(tier.name, tier.rules)
        return found


def read(table: Mapping[str, Any]) -> Tiers:
    """The tiers of castore.toml's table `[tiers]`; without any, those that there are by default.

    Raises UsageError that names the tier, the key and what it takes.
    """
    return Tiers(tuple(_tier(name, said) for name, said in (table or DEFAULT).items()), bool(table))


def _tier(name: str, said: Any) -> Tier:
    where = f"tiers.{name}"
    if not _NAME.fullmatch(name) or name == AUTO:
        raise UsageError(f"tiers: {name[:80]!r} can't name a tier: letters, digits, '.', '_' and '-', 64 at most")
    if not isinstance(said, Mapping):
        raise UsageError(f"{where} should be a table, [tiers.{name}], not {said!r}")
    unknown = next((key for key in said if key not in _OWN and key not in _RULES), None)
    if unknown is not None:
        raise UsageError(f"{where}: there is no key {unknown!r}; there are: {', '.join((*_OWN, *_RULES))}")
    try:
        rules = Rules.from_mapping({key: value for key, value in said.items() if key in _RULES})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Tier(
        name,
        include=_patterns(where, "include", said),
        exclude=_patterns(where, "exclude", said),
        every_steps=_whole(where, "every_steps", said, 1, 1 << 62),
        every_seconds=_seconds(where, said),
        rules=rules,
        max_depth=_whole(where, "max_depth", said, 0, limits.MAX_REPACK_DEPTH),
        directory=_directory(where, said),
    )


def _patterns(where: str, key: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    value = said.get(key, [])
    listed: Sequence[Any] = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) and one for one in listed):
        raise UsageError(f"{where}: {key} takes a pattern of paths, such as 'optimizer', or a list, not {value!r}")
    return tuple(listed)


def _whole(where: str, key: str, said: Mapping[str, Any], low: int, high: int) -> int | None:
    value = said.get(key)
    if value is None or (type(value) is int and low <= value <= high):
        return value
    raise UsageError(f"{where}: {key} takes a whole number from {low} to {high}, not {value!r}")


def _seconds(where: str, said: Mapping[str, Any]) -> float | None:
    value = said.get("every_seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UsageError(f"{where}: every_seconds takes a number of seconds above 0, not {value!r}")
    return float(value)


def _directory(where: str, said: Mapping[str, Any]) -> str | None:
    value = said.get("directory")
    if value is None or (isinstance(value, str) and value and value.isprintable()):
        return value
    raise UsageError(f"{where}: directory takes the path of one, not {value!r}")
