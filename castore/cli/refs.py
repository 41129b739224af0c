"""Which names point at a commit, as lists show them beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castore.cli.output import bold, green, yellow
from castore.history.revision_syntax import parse

if TYPE_CHECKING:
    from castore.store import Store


class RefNames:
    """The branches, tags and HEAD of a store, the current branch first."""

    def __init__(self, store: Store) -> None:
        self._head = store.head()
        branches = store.branches()
        self._branches = sorted(branches, key=lambda name: (name != self._head.branch, name))
        self._tags = store.tags()
        self._at: dict[str, list[str]] = {}
        self._tags_at: dict[str, list[str]] = {}
        for name in self._branches:
            self._at.setdefault(branches[name], []).append(name)
        for name, commit in sorted(self._tags.items()):
            self._tags_at.setdefault(commit, []).append(name)

    def all(self) -> list[str]:
        """HEAD, where it has a commit, and every branch and tag, spelled so that none can be mistaken for another."""
        head = ["HEAD"] if self._head.commit is not None else []
        return [
            *head,
            *(f"refs/heads/{name}" for name in self._branches),
            *(f"refs/tags/{name}" for name in sorted(self._tags)),
        ]

    def branch_of(self, rev: str) -> str | None:
        """The branch that a revision starts from; None for a tag or an id."""
        name = parse(rev).name
        if name in ("", "HEAD"):
            return self._head.branch
        for prefix in ("refs/heads/", "heads/", ""):
            if name.startswith(prefix) and name.removeprefix(prefix) in self._branches:
                return name.removeprefix(prefix)
        return None

    def at(self, commit: str) -> list[str]:
        """The plain names of the branches and tags at a commit."""
        return self._at.get(commit, []) + self._tags_at.get(commit, [])

    def decoration(self, commit: str) -> str:
        """`(HEAD -> main, exp1, tag: v1.0)`, or nothing."""
        shown = [bold("HEAD")] if self._head.branch is None and self._head.commit == commit else []
        for name in self._at.get(commit, []):
            shown.append(green(f"HEAD -> {name}" if name == self._head.branch else name))
        shown += [yellow(f"tag: {name}") for name in self._tags_at.get(commit, [])]
        return f"({', '.join(shown)})" if shown else ""
