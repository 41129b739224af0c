"""The decision: of each commit, whether its state is kept, and by which rules. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from castore.history.drops import DROPPED, PARTIAL, PRESENT
from castore.objects.commit import RESUMED_FROM, Commit
from castore.retention.components import Cutting, by_statistics
from castore.retention.past import Fits, Past, View, Weigh, view
from castore.retention.rules import Rules


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one commit.

    before, after: "present", "partial" or "dropped". reasons: what keeps it, a text each; none for what is dropped.
    rule: by which rules something is dropped now, "" for nothing. components: the patterns of all that is gone of a
    partial state afterwards.
    """

    commit: Commit
    before: str
    after: str
    reasons: tuple[str, ...]
    rule: str = ""
    components: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """verdicts: by commit, in the order of the lines. warnings: a line each."""

    verdicts: Mapping[str, Verdict]
    warnings: tuple[str, ...]


def decide(past: Past, rules: Rules, now: datetime, weigh: Weigh | None = None, fits: Fits = by_statistics) -> Decision:
    """What the rules keep at `now` (which has a UTC offset), and what they drop.

    A commit that any rule keeps is kept. Whatever the rules: heads, the newest whole state of each line, what is
    protected, what a run began from, and commits whose times can't be believed. weigh: for budgets of bytes; fits: for
    rules that drop components.

    Raises UsageError for a rule that can't mean what it says, such as one by a metric that no commit has.
    """
    seen = view(past, now, fits, weigh)
    warnings = [text for _, rule in rules.keep for text in rule.check(seen)]
    guarded = _guarded(past, seen, rules)
    reasons: dict[str, list[str]] = {commit_id: list(texts) for commit_id, texts in guarded.items()}
    for text, rule in rules.keep:
        for commit, word in rule.chosen(seen):
            texts = reasons.setdefault(commit.id, [])
            reason = f"{text}: {word}" if word else text
            if reason not in texts:
                texts.append(reason)
    cutting = Cutting(rules.drop, seen)
    verdicts: dict[str, Verdict] = {}
    for line in past.lines:
        for commit in line.commits:
            if commit.id not in verdicts:
                verdicts[commit.id] = _verdict(commit, past, rules, cutting, reasons, commit.id in guarded)
    warnings += cutting.warnings()
    warnings += _clock_warnings(seen, verdicts, rules)
    kept = [one.commit for one in verdicts.values() if one.after != DROPPED]
    warnings += [text for _, rule in rules.keep for text in rule.check_kept(seen, kept)]
    return Decision(verdicts, tuple(warnings))


def _verdict(
    commit: Commit, past: Past, rules: Rules, cutting: Cutting, reasons: Mapping[str, list[str]], is_guarded: bool
) -> Verdict:
    drop = past.drops.get(commit.id)
    before = PRESENT if drop is None else drop.state
    gone = drop.components if drop is not None else ()
    if before == DROPPED:
        return Verdict(commit, before, before, ())
    asked = [text for text, rule in rules.keep if rule.applies_to(commit)]
    why = tuple(reasons.get(commit.id, ())) or (() if asked else ("no rule drops whole states",))
    if not why:
        return Verdict(commit, before, DROPPED, (), " ".join(asked))
    texts, more = ([], []) if is_guarded else cutting.cut(commit, gone)
    if not more:
        return Verdict(commit, before, before, why, "", gone)
    return Verdict(commit, before, PARTIAL, why, " ".join(texts), (*gone, *more))


def _guarded(past: Past, seen: View, rules: Rules) -> dict[str, list[str]]:
    """What is kept, and kept whole, whatever the rules say."""
    found: dict[str, list[str]] = {}

    def guard(commit_id: str, text: str) -> None:
        found.setdefault(commit_id, []).append(text)

    for line in past.lines:
        if line.commits:
            guard(line.commits[0].id, f"head of {line.name}")
        newest = next((one.id for one in line.commits if one.id not in past.drops), None)
        if newest is not None and newest != line.commits[0].id:
            guard(newest, f"newest whole state of {line.name}")
    for commit_id, texts in past.protected.items():
        for text in texts:
            guard(commit_id, text)
    for commit_id in _begun_from(past):
        guard(commit_id, "a run began from it")
    for commit_id in seen.ahead:
        guard(commit_id, "its time is in the future")
    if rules.use_time:
        for commit_id in seen.behind:
            guard(commit_id, "its time is before that of a commit before it")
    return found


def _begun_from(past: Past) -> Iterator[str]:
    """The commits that runs went on from: those that a commit's notes name, and those that lines part at."""
    commits = {commit.id: commit for line in past.lines for commit in line.commits}
    children = Counter(parent for commit in commits.values() for parent in set(commit.parents))
    named = {commit.meta[RESUMED_FROM] for commit in commits.values() if RESUMED_FROM in commit.meta}
    yield from sorted(named | {one for one, count in children.items() if count > 1})


def _clock_warnings(seen: View, verdicts: Mapping[str, Verdict], rules: Rules) -> Iterator[str]:
    behind = seen.behind if rules.use_time else frozenset()
    for ids, what in ((seen.ahead, "dated in the future"), (behind, "dated before a commit that comes before them")):
        listed = [one for one in ids if verdicts[one].before != DROPPED]
        if listed:
            yield f"{len(listed)} commits are {what} ({_named(listed, verdicts)}): a clock was wrong; they are kept"


def _named(ids: Iterable[str], verdicts: Mapping[str, Verdict]) -> str:
    """The first few of some commits, by id and time."""
    order = sorted(ids, key=lambda one: verdicts[one].commit.time)
    shown = [f"{one[:12]} of {verdicts[one].commit.time:%Y-%m-%d %H:%M}" for one in order[:3]]
    return ", ".join(shown) + (", ..." if len(order) > 3 else "")
