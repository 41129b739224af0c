"""Rules: branches, tags, HEAD and what they were before."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from castore.errors import RefExistsError, RevisionError, UsageError
from tests.model.base import BRANCHES, LOGS, TAGS, Base


class Names(Base):
    @rule(data=st.data(), name=BRANCHES, force=st.booleans())
    def branch(self, data: st.DataObject, name: str, force: bool) -> None:
        rev, commit = self.draw_revision(data)
        if name in self.model.branches and not force:
            with pytest.raises(RefExistsError):
                self.store.branch(name, rev)
            return
        assert self.store.branch(name, rev, force) == commit
        self.model.move(name, commit, datetime.now(timezone.utc))

    @rule(name=BRANCHES, force=st.booleans())
    def delete_branch(self, name: str, force: bool) -> None:
        if name not in self.model.branches:
            with pytest.raises(RevisionError):
                self.store.delete_branch(name, force)
        elif name == self.model.head or not (force or self.model.is_kept(name)):
            with pytest.raises(UsageError):
                self.store.delete_branch(name, force)
        else:
            assert self.store.delete_branch(name, force) == self.model.branches.pop(name)
            del self.model.logs[name]

    @rule(data=st.data(), name=TAGS, force=st.booleans())
    def tag(self, data: st.DataObject, name: str, force: bool) -> None:
        rev, commit = self.draw_revision(data)
        if name in self.model.tags and not force:
            with pytest.raises(RefExistsError):
                self.store.tag(name, rev)
            return
        assert self.store.tag(name, rev, force) == commit
        self.model.tags[name] = commit

    @rule(name=TAGS)
    def delete_tag(self, name: str) -> None:
        if name not in self.model.tags:
            with pytest.raises(RevisionError):
                self.store.delete_tag(name)
        else:
            assert self.store.delete_tag(name) == self.model.tags.pop(name)

    @rule(name=BRANCHES)
    def switch(self, name: str) -> None:
        if name not in self.model.branches and name != self.model.head:
            with pytest.raises(RevisionError):
                self.store.switch(name)
            return
        self.store.switch(name)
        self.model.switch(name, datetime.now(timezone.utc))

    @rule(log=LOGS)
    def reflog(self, log: str) -> None:
        if log not in self.model.logs:
            return
        expected = [(entry.old, entry.new) for entry in reversed(self.model.logs[log])]
        assert [(entry.old, entry.new) for entry in self.store.reflog(log)] == expected
        for number, value in enumerate(self.model.values(log)):
            assert self.store.resolve(f"{log}@{{{number}}}") == value

    @rule(log=LOGS, days=st.integers(-45, 45))
    def expire_reflog(self, log: str, days: int) -> None:
        before = datetime.now(timezone.utc) + timedelta(days=days)
        if log in self.model.logs:
            self.store.expire_reflog(log, before)
            self.model.expire(log, before)
