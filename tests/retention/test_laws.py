"""What holds of every decision, whatever the history and the rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from castore.history.drops import DROPPED, PARTIAL, PRESENT, Drop
from castore.retention.components import by_statistics
from castore.retention.decide import Decision, decide
from castore.retention.of_tier import OfTier
from castore.retention.past import Past, view
from castore.retention.rules import Rules
from tests.retention.pasts import DROPS, KEEPS, NOW, TIER_KEEPS, TIERS, pasts, rules_of, weigh

RANK = {DROPPED: 0, PARTIAL: 1, PRESENT: 2}
RULES = st.lists(KEEPS | TIER_KEEPS | DROPS, max_size=5).map(rules_of)


def decided(past: Past, rules: Rules) -> Decision:
    return decide(past, rules, NOW, weigh)


def after(past: Past, decision: Decision) -> Past:
    """The past once a decision was carried out."""
    drops = dict(past.drops)
    for commit_id, one in decision.verdicts.items():
        if one.rule:
            drops[commit_id] = Drop(commit_id, NOW, one.rule, one.components)
    return Past(past.lines, drops, past.protected)


@given(pasts(), RULES)
def test_every_commit_gets_a_verdict_and_none_comes_back(past: Past, rules: Rules) -> None:
    decision = decided(past, rules)
    assert decision.verdicts.keys() == {commit.id for line in past.lines for commit in line.commits}
    for commit_id, verdict in decision.verdicts.items():
        drop = past.drops.get(commit_id)
        assert verdict.before == (PRESENT if drop is None else drop.state)
        assert RANK[verdict.after] <= RANK[verdict.before]
        assert bool(verdict.rule) == (verdict.after != verdict.before or verdict.components != _gone(drop))


def _gone(drop: Drop | None) -> tuple[str, ...]:
    return () if drop is None else drop.components


@given(pasts(), RULES)
def test_heads_tags_pins_and_the_newest_whole_state_of_each_line_lose_nothing(past: Past, rules: Rules) -> None:
    verdicts = decided(past, rules).verdicts
    untouched = {commit_id for commit_id in past.protected if commit_id in verdicts}
    for line in past.lines:
        untouched.add(line.commits[0].id)
        untouched.update([commit.id for commit in line.commits if commit.id not in past.drops][:1])
    for commit_id in untouched:
        assert not verdicts[commit_id].rule
        assert verdicts[commit_id].after == verdicts[commit_id].before


@given(
    pasts(),
    st.lists(KEEPS | TIER_KEEPS, min_size=1, max_size=4),
    KEEPS | TIER_KEEPS,
    st.lists(DROPS, max_size=2),
    st.data(),
)
def test_a_rule_more_never_drops_more(
    past: Past,
    rules: list[tuple[str, object]],
    extra: tuple[str, object],
    drops: list[tuple[str, object]],
    data: st.DataObject,
) -> None:
    asked = rules_of([*rules, *drops])
    before = decided(past, asked).verdicts
    after_ = decided(past, rules_of([*data.draw(st.permutations([*rules, extra])), *drops])).verdicts
    for commit_id in before:
        if not any(rule.applies_to(before[commit_id].commit) for _, rule in asked.keep):
            continue  # no rule had a say in it: the first one that has may drop it
        assert RANK[after_[commit_id].after] >= RANK[before[commit_id].after]


@given(pasts(), RULES, st.data())
def test_a_tag_more_never_drops_more(past: Past, rules: Rules, data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from([commit.id for line in past.lines for commit in line.commits]))
    tagged = Past(past.lines, past.drops, {**past.protected, chosen: ("tag v2",)})
    before, after_ = decided(past, rules).verdicts, decided(tagged, rules).verdicts
    for commit_id in before:
        assert RANK[after_[commit_id].after] >= RANK[before[commit_id].after]


@given(pasts(), st.lists(TIER_KEEPS, min_size=1, max_size=4).map(rules_of))
def test_the_rules_of_a_tier_drop_none_of_another(past: Past, rules: Rules) -> None:
    named = {rule.tier for _, rule in rules.keep if isinstance(rule, OfTier)}
    for verdict in decided(past, rules).verdicts.values():
        assert verdict.commit.tier in named or not verdict.rule


@given(pasts(), st.sampled_from(TIERS), st.integers(1, 6))
def test_the_last_of_a_tier_are_the_last_of_its_commits(past: Past, tier: str, count: int) -> None:
    seen = view(past, NOW, by_statistics, weigh)
    (_, rule), *_ = rules_of([(f"{tier}/keep_last", count)]).keep
    expected = {one.id for line in seen.lines for one in [one for one in line.commits if one.tier == tier][:count]}
    assert {one.id for one, _ in rule.chosen(seen)} == expected


@given(pasts(), st.lists(DROPS, max_size=3).map(rules_of))
def test_without_a_rule_that_keeps_no_whole_state_is_dropped(past: Past, rules: Rules) -> None:
    for verdict in decided(past, rules).verdicts.values():
        assert verdict.after != DROPPED or verdict.before == DROPPED


@given(pasts(), RULES)
def test_pruning_once_more_drops_nothing_more(past: Past, rules: Rules) -> None:
    again = decided(after(past, decided(past, rules)), rules)
    assert not [one for one in again.verdicts.values() if one.rule]


@given(pasts(), RULES)
def test_what_is_kept_says_why_and_what_is_dropped_by_which_rules(past: Past, rules: Rules) -> None:
    for verdict in decided(past, rules).verdicts.values():
        if verdict.after != DROPPED:
            assert verdict.reasons
        elif verdict.before != DROPPED:
            assert verdict.rule == " ".join(text for text, rule in rules.keep if rule.applies_to(verdict.commit))


@given(pasts(), RULES)
def test_no_commit_is_dropped_whose_time_is_in_the_future(past: Past, rules: Rules) -> None:
    decision = decided(past, rules)
    ahead = [one for one in decision.verdicts.values() if one.commit.time > NOW]
    assert not [one for one in ahead if one.rule]
    assert any("future" in text for text in decision.warnings) == any(one.before != DROPPED for one in ahead)


@given(pasts(skewed=False), st.integers(0, 6000))
def test_a_budget_alone_is_kept_but_for_what_is_never_dropped(past: Past, budget: int) -> None:
    decision = decided(past, rules_of([("max_bytes", budget)]))
    by_score = [one.commit for one in decision.verdicts.values() if any("--max-bytes" in text for text in one.reasons)]
    assert sum(dict(record for commit in by_score for record in weigh(commit)).values()) <= budget
    kept = [one.commit for one in decision.verdicts.values() if one.after != DROPPED]
    total = sum(dict(record for commit in kept for record in weigh(commit)).values())
    assert any("more than --max-bytes" in text for text in decision.warnings) == (total > budget)


@given(pasts(skewed=False), st.integers(0, 6000), st.integers(0, 2000))
def test_a_larger_budget_never_drops_more(past: Past, budget: int, more: int) -> None:
    small = decided(past, rules_of([("max_bytes", budget)])).verdicts
    large = decided(past, rules_of([("max_bytes", budget + more)])).verdicts
    assert not [one for one in small if small[one].after == PRESENT and large[one].after != PRESENT]
