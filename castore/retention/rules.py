"""Rules as a value: from Python, from the command line, or from castore.toml's table `[retention]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from castore.errors import UsageError
from castore.retention.components import DropComponents
from castore.retention.keep import KeepRule
from castore.retention.registry import FORMS, Rule


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep, and what to drop of it. A commit that any of `keep` keeps is kept; with none, every one is.

    keep, drop: pairs of a rule's text, as the command line has it, and the rule.
    """

    keep: tuple[tuple[str, KeepRule], ...] = ()
    drop: tuple[tuple[str, DropComponents], ...] = ()

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Rules:
        """Rules by name: `{"keep_last": 5, "keep_best": ["loss=min:3", "accuracy=max"]}`.

        A value is a whole number, text, or a list of these. Raises UsageError that names what it does not know.
        """
        found: list[tuple[str, Rule]] = []
        for key, value in settings.items():
            form = FORMS.get(str(key))
            if form is None:
                raise UsageError(f"retention: there is no rule {key!r}; there are: {', '.join(FORMS)}")
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, bool) or not isinstance(one, int | str):
                    raise UsageError(f"retention: {key} takes {form.metavar}, not {one!r}")
                found.append((f"{form.option} {one}", form.read(form.option, str(one))))
        return cls(
            tuple((text, rule) for text, rule in found if isinstance(rule, KeepRule)),
            tuple((text, rule) for text, rule in found if isinstance(rule, DropComponents)),
        )

    def __add__(self, other: Rules) -> Rules:
        """Both together."""
        return Rules(
            self.keep + tuple(one for one in other.keep if one not in self.keep),
            self.drop + tuple(one for one in other.drop if one not in self.drop),
        )

    def __bool__(self) -> bool:
        return bool(self.keep or self.drop)

    @property
    def use_time(self) -> bool:
        """Whether one of them goes by when commits were made."""
        return any(rule.uses_time for _, rule in self.keep) or any(rule.older_than is not None for _, rule in self.drop)


def as_rules(value: Rules | Mapping[str, Any]) -> Rules:
    """The rules that are meant: themselves, or by name. Raises UsageError."""
    return value if isinstance(value, Rules) else Rules.from_mapping(value)
