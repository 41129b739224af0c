"""Rules: what stays and what goes, where it lies, and the index."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

import castore
from castore.errors import DroppedError, RevisionError
from tests.model.base import Base

_EXPIRY = timedelta(days=30)  # of reflog entries, by default
_RULES = st.fixed_dictionaries(
    {},
    optional={
        "keep_last": st.integers(1, 3),
        "keep_every": st.integers(2, 3),
        "keep_best": st.sampled_from(["loss=min:1", "loss=min:2"]),
        "keep_within": st.just("2d"),
        "drop_components": st.just("optimizer"),
    },
).filter(bool)


class Upkeep(Base):
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        if commit in self.model.dropped:
            with pytest.raises(DroppedError):
                self.store.pin(rev)
        else:
            self.store.pin(rev, "why")
            self.model.pins.add(commit)

    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        rev, commit = self.draw_revision(data)
        if commit in self.model.pins:
            self.store.unpin(rev)
            self.model.pins.remove(commit)
        else:
            with pytest.raises(RevisionError):
                self.store.unpin(rev)

    @rule(rules=_RULES)
    def prune(self, rules: Mapping[str, Any]) -> None:
        self.store.prune(rules)
        self.model.prune(rules, datetime.now(timezone.utc))
        drops = {commit: drop.state for commit, drop in self.store.drops().items()}
        expected = {**dict.fromkeys(self.model.partial, "partial"), **dict.fromkeys(self.model.dropped, "dropped")}
        assert drops == expected, (drops, expected)

    @rule()
    def collect(self) -> None:
        told = self.store.gc(dry_run=True)
        done = self.store.gc()
        self.model.collect(datetime.now(timezone.utc) - _EXPIRY)
        assert (told.removed_chunks, told.freed_bytes) == (done.removed_chunks, done.freed_bytes)
        for commit in self.model.gone:
            with pytest.raises(RevisionError):
                self.store.resolve(commit)
        assert not list((self.path / "incoming").iterdir())

    @rule()
    def repack(self) -> None:
        assert not self.store.repack().damaged

    @rule()
    def mirror(self) -> None:
        for done in self.store.mirror().directories:
            assert (done.error, done.failed) == (None, ())
        self.model.mirror()

    @rule()
    def act_from_the_other(self) -> None:
        self.acting = 1 - self.acting

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.stores[self.acting] = castore.open(self.root)

    @rule()
    def make_the_index_anew(self) -> None:
        self.store.repository.chunks.access.rebuild()

    @rule()
    def delete_the_index(self) -> None:
        shutil.rmtree(self.path / "index", ignore_errors=True)

    @rule()
    def close_packs(self) -> None:
        """As when others were read since."""
        self.store.repository.chunks.files.close()
