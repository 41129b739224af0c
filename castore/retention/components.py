"""The rules that drop components of states: the optimizer's of older commits, while the weights stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.objects.patterns import may_touch
from castore.retention import amounts
from castore.retention.past import View


@dataclass(frozen=True, slots=True)
class DropComponents:
    """patterns: of paths, as `castore.objects.patterns` reads them. older_than: at `now`; None: of any age."""

    text: str
    patterns: tuple[str, ...]
    older_than: timedelta | None

    @classmethod
    def parse(cls, name: str, text: str) -> DropComponents:
        patterns, colon, condition = text.partition(":older-than=")
        found = tuple(one.strip() for one in patterns.split(","))
        if not all(found) or ":" in patterns:
            raise UsageError(
                f"{name} takes PATTERN[,PATTERN...], then :older-than=TIME (optimizer:older-than=7d), not {text!r}"
            )
        return cls(text, found, amounts.span(name, condition) if colon else None)

    def applies(self, commit: Commit, view: View) -> bool:
        """Whether the rule takes something from a commit that is kept."""
        old = self.older_than is None or view.now - commit.time > self.older_than
        return old and any(may_touch(component, self.patterns) for component in commit.stats.components)

    def check(self, view: View) -> Iterator[str]:
        """Warnings."""
        known = {name for line in view.lines for commit in line.everything for name in commit.stats.components}
        for pattern in self.patterns:
            if known and not any(may_touch(name, (pattern,)) for name in known):
                yield (
                    f"--drop-components {self.text}: no commit has a component that fits {pattern!r}; "
                    f"there are: {', '.join(sorted(known)[:20])}"
                )
