"""The refs of a store of copies: named as in the store that they are of, and never let go of what was copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from castore.errors import RefExistsError
from castore.history.reflog import Change
from castore.maintenance.survey import Read, line_of
from castore.repo import Repository

_AUTHOR = "castore mirror"


class MirrorRefs:
    """Each branch is at its newest commit that has a copy. One that was moved away from a copy leaves the tag
    `copied/ID` there, and so has a copy that no branch leads to. Tags of copied commits are copied, HEAD is."""

    def __init__(self, source: Repository, target: Repository, read: Read) -> None:
        """read: the history of the source."""
        self._source = source
        self._target = target
        self._read = read
        tips = source.refs.branches()
        self._lines = {
            name: [one.id for one in line_of(tip, read)]
            for name, tip in tips.items()
            if tip in read.by_id  # else made since the history was read
        }

    def publish(self, states: Collection[str], time: datetime) -> None:
        """Let refs lead to copies. Call with the target's lock held. states: the commits that have one."""
        refs = self._target.refs
        for name, line in self._lines.items():
            newest = next((one for one in line if one in states), None)
            if newest is not None and newest != refs.branch(name):
                self._move(name, newest, time)
        for name, commit_id in self._source.refs.tags().items():
            if commit_id in states and refs.tag(name) is None:
                self._tag(name, commit_id)
        tips = [*refs.branches().values(), *refs.tags().values()]
        covered = set(self.before(tips))
        for commit_id in self._read.by_id:  # newest first
            if commit_id in states and commit_id not in covered:
                self._hold(commit_id)
                covered.update(self.before([commit_id]))
        head = self._source.refs.head().branch
        if head is not None and head != refs.head().branch:
            refs.set_head(Change(_AUTHOR, time, f"mirror: to {head}"), branch=head)

    def _move(self, name: str, commit_id: str, time: datetime) -> None:
        refs = self._target.refs
        present = refs.branch(name)
        if present is not None and present not in self.before([commit_id]):
            self._hold(present)
        try:
            refs.update_branch(name, commit_id, present, self._change(time))
        except RefExistsError as error:  # of a branch that the source has no more; the copy gets a tag
            self._source.progress.note(f"{self._target.path}: {error}")

    def _tag(self, name: str, commit_id: str) -> None:
        try:
            self._target.refs.create_tag(name, commit_id)
        except RefExistsError as error:
            self._source.progress.note(f"{self._target.path}: {error}")

    def _hold(self, commit_id: str) -> None:
        name = f"copied/{commit_id}"
        if self._target.refs.tag(name) is None:
            self._target.refs.create_tag(name, commit_id)

    def before(self, tips: Iterable[str]) -> Iterator[str]:
        """Commits, and all before them, as far as the source knows them."""
        pending, seen = list(tips), set[str]()
        while pending:
            one = pending.pop()
            if one not in seen and one in self._read.by_id:
                seen.add(one)
                yield one
                pending.extend(self._read.by_id[one].parents)

    def _change(self, time: datetime) -> Change:
        return Change(_AUTHOR, time, "mirror")
