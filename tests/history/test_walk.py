from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from commit_graphs import Commits, commit_graphs, history, make_commit
from hypothesis import given

from castore.errors import MissingError
from castore.history.walk import ancestors, is_ancestor, merge_base
from castore.objects.commit import Commit


def ids(commits: Commits, *start: str, first_parent: bool = False) -> list[str]:
    return [commit.id for commit in ancestors(start, commits, first_parent)]


def reachable(by_id: dict[str, Commit], start: str) -> set[str]:
    seen, pending = set(), [start]
    while pending:
        commit_id = pending.pop()
        if commit_id not in seen:
            seen.add(commit_id)
            pending.extend(by_id[commit_id].parents)
    return seen


def test_ten_of_two_thousand_commits_cost_ten_reads() -> None:
    commits = Commits(make_commit(f"c{n}", [f"c{n - 1}"] if n else [], n) for n in range(2000))
    walk = ancestors(["c1999"], commits)
    assert [next(walk).id for _ in range(10)] == [f"c{n}" for n in range(1999, 1989, -1)]
    assert len(commits.read) == 10


def test_branches_interleave_newest_first() -> None:
    commits = history({"base": "", "a1": "base", "b1": "base", "a2": "a1", "b2": "b1"})
    assert ids(commits, "a2", "b2") == ["b2", "a2", "b1", "a1", "base"]


def test_a_merge_is_walked_along_both_parents_or_the_first() -> None:
    commits = history({"base": "", "a": "base", "b": "base", "m": "a b"})
    assert ids(commits, "m") == ["m", "b", "a", "base"]
    assert ids(commits, "m", first_parent=True) == ["m", "a", "base"]


def test_starting_points_may_repeat_and_be_ancestors_of_each_other() -> None:
    commits = history({"a": "", "b": "a", "c": "b"})
    assert ids(commits, "a", "c", "a", "b") == ["c", "b", "a"]
    assert ids(commits) == []


def test_a_clock_that_ran_backwards_does_not_disorder_a_linear_history() -> None:
    minutes = [50, 3, 40, 7, 0, 99, 1]
    commits = Commits(make_commit(f"c{n}", [f"c{n - 1}"] if n else [], minute) for n, minute in enumerate(minutes))
    assert ids(commits, "c6") == [f"c{n}" for n in range(6, -1, -1)]


def test_a_common_ancestor_waits_for_children_whose_clocks_were_behind() -> None:
    old, new = make_commit("base", [], 10), make_commit("a", ["base"], 20)
    commits = Commits([old, new, make_commit("b", ["base"], 1)])
    assert ids(commits, "a", "b") == ["a", "b", "base"]


def test_a_hole_in_history_is_reported() -> None:
    with pytest.raises(MissingError):
        ids(history({"b": "gone"}), "b")


@given(commit_graphs(max_parents=3))
def test_with_true_clocks_the_order_is_newest_first_and_complete(graph: list[Commit]) -> None:
    commits = Commits(graph)
    tips = [commit.id for commit in graph]
    assert ids(commits, *tips) == tips[::-1]


@given(commit_graphs(max_parents=3, skewed=True))
def test_whatever_the_clocks_each_commit_comes_once_and_after_its_children_that_were_met(graph: list[Commit]) -> None:
    commits = Commits(graph)
    start = graph[-1].id
    order = ids(commits, start)
    assert sorted(order) == sorted(reachable(commits.by_id, start))
    assert order[0] == start
    everything = ids(commits, *(commit.id for commit in graph))
    place = {commit_id: n for n, commit_id in enumerate(everything)}
    # Every commit is a starting point here, so every child has been met
    assert all(place[commit.id] < place[parent] for commit in graph for parent in commit.parents)


@given(commit_graphs(max_parents=1, skewed=True))
def test_a_linear_history_is_in_order_whatever_the_clocks(graph: list[Commit]) -> None:
    commits = Commits(graph)
    order = ids(commits, graph[-1].id)
    assert all(commits.by_id[child].parents == (parent,) for child, parent in pairwise(order))


@given(commit_graphs(max_parents=3, skewed=True))
def test_ancestry_and_merge_bases_are_exact(graph: list[Commit]) -> None:
    commits = Commits(graph)
    a, b = graph[-1].id, graph[len(graph) // 2].id
    before_a, before_b = reachable(commits.by_id, a), reachable(commits.by_id, b)
    assert is_ancestor(b, a, commits) == (b in before_a)
    assert is_ancestor(a, b, commits) == (a in before_b)
    base = merge_base(a, b, commits)
    assert base == merge_base(b, a, commits)
    common = before_a & before_b
    best = {c for c in common if not any(c != d and c in reachable(commits.by_id, d) for d in common)}
    assert base in best if best else base is None


def test_merge_base_of_criss_cross_is_the_newest_of_the_best() -> None:
    commits = history({"r": "", "a": "r", "b": "r", "x": "a b", "y": "b a"})
    assert merge_base("x", "y", commits) == "b"
    assert merge_base("x", "x", commits) == "x"
    assert merge_base("a", "x", commits) == "a"


def test_unrelated_histories_have_no_merge_base() -> None:
    commits = history({"a": "", "b": ""})
    assert merge_base("a", "b", commits) is None
    assert not is_ancestor("a", "b", commits)


def test_commits_of_one_instant_keep_their_order() -> None:
    base = make_commit("base")
    commits = Commits([base, make_commit("a", ["base"]), make_commit("b", ["base"]), make_commit("m", ["a", "b"])])
    assert {commit.time - base.time for commit in commits.by_id.values()} == {timedelta(0)}
    assert ids(commits, "m") == ["m", "a", "b", "base"]
