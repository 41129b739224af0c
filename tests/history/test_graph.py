from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commit_graphs import Commits, commit_graphs, history
from hypothesis import given, settings

from castore.history.graph import graph_prefixes
from castore.history.walk import ancestors
from castore.objects.commit import Commit


def newest_first(commits: Commits) -> list[Commit]:
    return list(ancestors(commits.by_id, commits))


def drawing(shown: list[Commit]) -> list[str]:
    lines = []
    for commit, (prefix, following) in zip(shown, graph_prefixes(shown), strict=True):
        lines += [prefix + commit.id, *following]
    return lines


SHAPES = {
    "linear": ({"a": "", "b": "a", "c": "b"}, ["* c", "* b", "* a"]),
    "two branches": ({"a": "", "b": "a", "c": "a"}, ["* c", "| * b", "|/", "* a"]),
    "merge": ({"a": "", "b": "a", "c": "a", "m": "b c"}, ["*   m", "|\\", "| * c", "* | b", "|/", "* a"]),
    "roots": ({"a": "", "b": "a", "z": ""}, ["* z", "* b", "* a"]),
    "merge into the lane on the left": (
        {"a": "", "e": "a", "f": "e", "x": "a", "m": "f x", "y": "f"},
        ["* y", "| * m", "|/|", "| * x", "* | f", "* | e", "|/", "* a"],
    ),
    "merge of the lane on the right": (
        {"a": "", "b": "a", "c": "a", "m": "c b", "n": "b", "t": "m"},
        ["* t", "| * n", "* | m", "|\\|", "* | c", "| * b", "|/", "* a"],
    ),
    "edge under a lane": (
        {"a": "", "q": "a", "r": "a", "p": "a", "v": "q", "u": "p"},
        ["* u", "| * v", "* | p", "| | * r", "| |/", "|/|", "| * q", "|/", "* a"],
    ),
    "edge under two lanes": (
        {"a": "", "q": "a", "s": "a", "r": "a", "p": "a", "w": "s", "v": "q", "u": "p"},
        ["* u", "| * v", "| | * w", "* | | p", "| | | * r", "| |_|/", "|/| |",
         "| | * s", "| |/", "|/|", "| * q", "|/", "* a"],
    ),
    "lanes that move up": (
        {"a": "", "c": "", "d": "", "b": "a", "e": "c", "f": "d", "g": "a"},
        ["* g", "| * f", "| | * e", "| | | * b", "| |_|/", "|/| |", "| * | d", "|  /", "| * c", "* a"],
    ),
}  # fmt: skip


def git_drawing(commits: Commits, directory: Path) -> list[str]:
    """What `git log --graph` draws of the same history."""
    fixed = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    for role in ("AUTHOR", "COMMITTER"):
        fixed |= {f"GIT_{role}_NAME": "a", f"GIT_{role}_EMAIL": "a@example.org"}

    def git(*arguments: str, time: str = "0 +0000", stdin: str = "") -> str:
        environment = {**os.environ, **fixed, "GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=True).stdout

    git("init", "-q")
    tree = git("mktree").strip()
    ids: dict[str, str] = {}
    for commit in commits.by_id.values():
        parents = [argument for parent in commit.parents for argument in ("-p", ids[parent])]
        time = f"{int(commit.time.timestamp())} +0000"
        ids[commit.id] = git("commit-tree", tree, "-m", commit.id, *parents, time=time).strip()
    return git("log", "--graph", "--date-order", "--format=%s", *ids.values()).splitlines()


@pytest.mark.parametrize("shape", SHAPES)
def test_histories_look_as_documented(shape: str) -> None:
    parents, expected = SHAPES[shape]
    assert drawing(newest_first(history(parents))) == expected


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "lanes that move up"])
def test_histories_look_as_in_git(shape: str, tmp_path: Path) -> None:
    commits = history(SHAPES[shape][0])
    assert drawing(newest_first(commits)) == [line.rstrip() for line in git_drawing(commits, tmp_path)]


def test_parents_beyond_the_last_shown_commit_keep_their_lanes() -> None:
    commits = history({"a": "", "b": "a", "c": "a", "m": "b c", "n": "m"})
    shown = newest_first(commits)[:3]
    assert drawing(shown) == ["* n", "*   m", "|\\", "| * c"]


def test_no_commits_make_no_lines() -> None:
    assert graph_prefixes([]) == []


def read_back(shown: list[Commit]) -> set[tuple[str, str]]:
    """The (child, parent) pairs that a drawing shows: follows each edge down, as an eye would."""
    edges: set[tuple[str, str]] = set()
    at: dict[int, set[str]] = {}  # by slot: the commits whose edges run there
    for commit, (prefix, rows) in zip(shown, graph_prefixes(shown), strict=True):
        marks = prefix.rstrip()
        assert marks.count("*") == 1
        slot = marks.index("*") // 2
        assert {2 * lane for lane in at} <= {n for n, mark in enumerate(marks) if mark in "*|"}
        edges |= {(child, commit.id) for child in at.pop(slot, set())}
        if commit.parents:
            at[slot] = {commit.id}
        at = follow(rows, at)
    return edges


def follow(rows: list[str], at: dict[int, set[str]]) -> dict[int, set[str]]:
    passing: tuple[int, set[str]] | None = None  # an edge that runs under the lane of that slot
    for number, row in enumerate(rows):
        cells = dict(enumerate(row))
        below: dict[int, set[str]] = {}
        for slot, sources in at.items():
            if cells.get(2 * slot) == "|":
                below.setdefault(slot, set()).update(sources)
        next_passing = None
        for column in (n for n, cell in cells.items() if cell in "/\\"):
            slot = (column + 1) // 2
            if cells[column] == "\\":
                below.setdefault(slot, set()).update(at[slot - 1])
                continue
            if passing is not None and passing[0] == slot:
                sources, passing = passing[1], None
            else:
                sources = at[slot]
            while cells.get(column - 2) == "_":
                column -= 2
            landing = (column - 1) // 2
            after = rows[number + 1] if number + 1 < len(rows) else ""
            goes_on = landing > 0 and after[2 * landing - 1 : 2 * landing + 1] == "/|"
            if goes_on and cells.get(2 * landing) == "|":
                next_passing = (landing, sources)
            else:
                below.setdefault(landing, set()).update(sources)
        assert passing is None, "an edge under a lane ends there"
        at, passing = below, next_passing
    assert passing is None
    return at


@settings(max_examples=200)
@given(commit_graphs(max_commits=20, max_parents=4))
def test_the_drawing_shows_the_history_and_nothing_else(graph: list[Commit]) -> None:
    shown = graph[::-1]
    assert read_back(shown) == {(commit.id, parent) for commit in graph for parent in commit.parents}
