"""The rules that drop components of states: the optimizer's of older commits, while the weights stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.objects.patterns import may_touch
from castore.retention import amounts
from castore.retention.past import View


@dataclass(frozen=True, slots=True)
class DropComponents:
    """patterns: of paths, as `castore.objects.patterns` reads them. older_than: at `now`; None: of any age.

    tier: of whose commits alone; None: of all.
    """

    text: str
    patterns: tuple[str, ...]
    older_than: timedelta | None
    tier: str | None = None

    @classmethod
    def parse(cls, name: str, text: str) -> DropComponents:
        patterns, colon, condition = text.partition(":older-than=")
        found = tuple(one.strip() for one in patterns.split(","))
        if not all(found) or ":" in patterns:
            raise UsageError(
                f"{name} takes PATTERN[,PATTERN...], then :older-than=TIME (optimizer:older-than=7d), not {text!r}"
            )
        return cls(text, found, amounts.span(name, condition) if colon else None)

    def is_due(self, commit: Commit, view: View) -> bool:
        """Whether a commit is one of those meant, and old enough."""
        if self.tier is not None and commit.tier != self.tier:
            return False
        return self.older_than is None or view.now - commit.time > self.older_than


class Cutting:
    """What the rules take from commits that are kept, and whether they ever found what they ask for."""

    def __init__(self, rules: Sequence[tuple[str, DropComponents]], view: View) -> None:
        self._rules = rules
        self._view = view
        self._found: dict[tuple[str, str], bool] = {}

    def cut(self, commit: Commit, gone: Sequence[str]) -> tuple[list[str], list[str]]:
        """The texts of the rules that take something more from a commit than `gone`, and the patterns of that."""
        texts: list[str] = []
        patterns: list[str] = []
        for text, rule in self._rules:
            asked = [one for one in rule.patterns if one not in gone]
            if not asked or not rule.is_due(commit, self._view):
                continue
            fitting = self._view.fits(commit, asked)
            for one in asked:
                self._found[text, one] = self._found.get((text, one), False) or one in fitting
            fresh = [one for one in fitting if one not in patterns]
            if fresh:
                texts.append(text)
                patterns += fresh
        return texts, patterns

    def warnings(self) -> Iterator[str]:
        """The patterns that fit nothing in any of the commits that were looked at."""
        for (text, pattern), found in self._found.items():
            if not found:
                yield f"{text}: no commit that it looks at has anything that fits {pattern!r}"


def by_statistics(commit: Commit, patterns: Sequence[str]) -> list[str]:
    """The patterns that may fit something in a commit, as far as its statistics tell: without the names of files."""
    return [one for one in patterns if any(may_touch(component, (one,)) for component in commit.stats.components)]
