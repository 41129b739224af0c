"""Prune: decide by rules which states are dropped, and note it, all at once. The space is freed by gc.

The decision takes a while, and is made without the lock; if a ref, a pin or a drop changed meanwhile, it is made again,
and when that goes on, with the lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from castore import config
from castore.errors import RevisionError, UsageError
from castore.history.audit_line import Event
from castore.history.drops import Drop
from castore.maintenance.reports import Explanation, PruneReport
from castore.maintenance.survey import Names, survey
from castore.maintenance.weights import Weights, holdings
from castore.objects.commit import Commit
from castore.objects.patterns import fitting
from castore.repo import Repository
from castore.retention.components import DropComponents
from castore.retention.decide import Decision, Verdict, decide
from castore.retention.of_tier import OfTier
from castore.retention.rules import Rules

Clock = Callable[[], datetime]
_ATTEMPTS = 2  # without the lock


class NoRulesError(UsageError):
    """There is no rule that any commit could fall under, so that nothing can be decided."""


def configured(repo: Repository) -> Rules:
    """The rules of castore.toml, those of tiers too. Raises UsageError that names the file and what is wrong."""
    try:
        found = Rules.from_mapping(repo.config.retention)
    except UsageError as error:
        raise UsageError(f"{repo.path / config.NAME}: {error}") from None
    return found + repo.tiers().rules


def prune(repo: Repository, rules: Rules, branch: str | None, dry_run: bool, clock: Clock) -> PruneReport:
    """Drop what no rule keeps. Raises UsageError for no rules, or one that can't mean what it says; RevisionError."""
    if dry_run:
        decision = _decision(repo, Names.of(repo), rules, branch, clock)
        _check_any(repo, rules, decision)
        weighed = holdings(repo, decision.verdicts.values())
        verdicts = tuple(decision.verdicts.values())
        return PruneReport(True, verdicts, decision.warnings, weighed.alone, weighed.freed_bytes)
    for _ in range(_ATTEMPTS):
        names = Names.of(repo)
        decision = _decision(repo, names, rules, branch, clock)
        _check_any(repo, rules, decision)
        with repo.lock.held():
            if Names.of(repo) == names:
                return _carried_out(repo, decision, clock())
    with repo.lock.held():
        return _carried_out(repo, _decision(repo, Names.of(repo), rules, branch, clock), clock())


def _check_any(repo: Repository, rules: Rules, decision: Decision) -> None:
    """Raises NoRulesError where there is no rule, or only rules of tiers that no commit is of."""
    tiers = {rule.tier if isinstance(rule, OfTier | DropComponents) else None for _, rule in (*rules.keep, *rules.drop)}
    if None not in tiers and not any(verdict.commit.tier in tiers for verdict in decision.verdicts.values()):
        raise NoRulesError(
            f"there are no rules: give some, such as --keep-last 5, or write them into [retention] of "
            f"{repo.path / config.NAME}"
        )


def _carried_out(repo: Repository, decision: Decision, time: datetime) -> PruneReport:
    """Note what a decision drops. Call with the lock held."""
    report = PruneReport(False, tuple(decision.verdicts.values()), decision.warnings)
    if report.changed:
        repo.require_features(config.RETENTION)
        repo.drops.require_whole()
        repo.audit.append(*(Event("prune", one.commit.id, detail=_told(one)) for one in report.changed))
        repo.drops.add([Drop(one.commit.id, time, one.rule, one.components) for one in report.changed])
    return report


def _told(verdict: Verdict) -> str:
    return ", ".join([f"{verdict.after} by {verdict.rule}", *verdict.components])


def why(repo: Repository, rev: str, rules: Rules, clock: Clock) -> Explanation:
    """What the rules say of one commit. Raises RevisionError, UsageError."""
    commit_id = repo.resolve(rev)
    decision = _decision(repo, Names.of(repo), rules, None, clock)
    verdict = decision.verdicts.get(commit_id)
    if verdict is None:
        raise RevisionError(f"no branch, tag, pin or HEAD leads to {rev}, so gc takes it once no reflog does either")
    weighed = holdings(repo, decision.verdicts.values())
    return Explanation(verdict, repo.drops.get(commit_id), weighed.alone.get(commit_id, 0), decision.warnings)


def _decision(repo: Repository, names: Names, rules: Rules, branch: str | None, clock: Clock) -> Decision:
    def fits(commit: Commit, patterns: Sequence[str]) -> list[str]:
        root = repo.tree_reader().read(bytes.fromhex(commit.tree))
        return [pattern for pattern in patterns if fitting(root, (pattern,))]

    return decide(survey(repo, names, branch), rules, clock(), Weights(repo), fits)
