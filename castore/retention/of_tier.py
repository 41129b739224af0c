"""Rules that look at the commits of one tier alone, as if there were no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.retention.components import DropComponents
from castore.retention.keep import Chosen, KeepRule
from castore.retention.past import View
from castore.retention.rules import Rules


@dataclass(frozen=True, slots=True)
class OfTier(KeepRule):
    """What a rule keeps of the commits of a tier. It drops none of another."""

    text: str
    tier: str
    rule: KeepRule

    @property
    def uses_time(self) -> bool:
        return self.rule.uses_time

    def applies_to(self, commit: Commit) -> bool:
        return commit.tier == self.tier

    def chosen(self, view: View) -> Chosen:
        return self.rule.chosen(self._own(view))

    def check(self, view: View) -> Iterator[str]:
        try:
            return iter(list(self.rule.check(self._own(view))))
        except UsageError as error:
            raise UsageError(f"tier {self.tier}: {error}") from None

    def check_kept(self, view: View, kept: Sequence[Commit]) -> Iterator[str]:
        for text in self.rule.check_kept(self._own(view), self._of(kept)):
            yield f"tier {self.tier}: {text}"

    def _own(self, view: View) -> View:
        lines = [
            replace(one, everything=self._of(one.everything), commits=self._of(one.commits), timed=self._of(one.timed))
            for one in view.lines
        ]
        return replace(view, lines=tuple(lines))

    def _of(self, commits: Iterable[Commit]) -> tuple[Commit, ...]:
        return tuple(commit for commit in commits if commit.tier == self.tier)


@dataclass(frozen=True, slots=True)
class KeepAll(KeepRule):
    """Every one: what a tier without rules of its own says."""

    text: str = "keep all"

    def chosen(self, view: View) -> Chosen:
        return ((commit, "") for line in view.lines for commit in line.commits)


def of_tier(name: str, rules: Rules) -> Rules:
    """Rules for the commits of one tier alone; where none of them keeps, all of these are kept."""
    keep = rules.keep or (("keeps all", KeepAll()),)
    return Rules(
        tuple((f"{text} (tier {name})", OfTier(rule.text, name, rule)) for text, rule in keep),
        tuple((f"{text} (tier {name})", _cut(name, rule)) for text, rule in rules.drop),
    )


def _cut(name: str, rule: DropComponents) -> DropComponents:
    return replace(rule, tier=name)
