"""Rules: a pack is damaged, what depends on it says so, and repair and another commit bring it back."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from castore.chunks import pack
from castore.errors import CorruptError, DroppedError
from castore.maintenance.weights import Weights
from castore.testing.states import equal_states
from tests.model.base import BRANCHES, STATES, Base
from tests.model.states import state

_EVERY = 7  # commits: it takes as long as many other steps


class Damage(Base):
    damaged_at = 0

    @precondition(lambda self: self.made >= self.damaged_at + _EVERY)
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "delete"]), branch=BRANCHES, key=STATES)
    def damage_and_mend(self, data: st.DataObject, how: str, branch: str, key: tuple[int, int]) -> None:
        self.damaged_at = self.made
        self.is_damaged = True
        packs = sorted((self.path / "packs").glob("*/*.pack"))
        path = packs[data.draw(st.integers(0, 99), "pack") % len(packs)]
        before = path.read_bytes()
        offset = data.draw(st.integers(0, 99_999), "offset") % len(before)
        self.reopen_all()
        harmed = self._records_in(path, how, offset)
        needs = {commit: self._needs(commit) for commit in self.model.commits}
        for store in self.stores:
            store.close()
        _harm(path, how, offset)
        self.reopen_all()
        if set(harmed.values()) <= {pack.CHUNK}:
            new = self.make(branch, key)  # a run goes on, whatever became of its past
            needs[new] = self._needs(new)
            lost = {commit for commit, records in needs.items() if not records.isdisjoint(harmed)}
            named = self._check_damage(lost)
            assert {one for one in lost if self.model.is_reachable(one)} <= named
            self.store.fsck(repair=True)
            for state_key in sorted({self.model.commits[one].state for one in lost}):
                self.make(branch, state_key)
        else:  # history itself comes back from a backup alone
            self._check_damage({commit for commit, records in needs.items() if not records.isdisjoint(harmed)})
            path.write_bytes(before)
        self.reopen_all()
        assert (found := self.store.fsck()).ok, found.errors
        for commit in self.model.commits:
            self.check_load(self.store, commit)
        self.is_damaged = False

    def _records_in(self, path: Path, how: str, offset: int) -> dict[bytes, int]:
        """The records whose bytes the damage hits, with their kinds."""
        access = self.store.repository.chunks.access
        access.look_again()
        return {
            one: at.kind
            for one, at in access.index.items()
            if at.pack.hex() == path.stem
            and (how == "delete" or at.offset + at.length > offset)
            and (how != "flip" or at.offset <= offset)
        }

    def _needs(self, commit: str) -> set[bytes]:
        """The records without which a commit does not load."""
        repo = self.store.repository
        return {bytes.fromhex(commit), *(one for one, _ in Weights(repo)(repo.commit(commit)))}

    def _check_damage(self, lost: Collection[str]) -> set[str]:
        """What is lost raises; everything else loads; fsck finds it, and names the commits that are returned."""
        for commit in self.model.commits:
            if commit not in lost:
                self.check_load(self.store, commit)
                continue
            try:
                loaded = self.store.load(commit)
            except DroppedError:
                assert not self.is_whole(commit)
            except CorruptError:
                pass
            else:
                assert self.model.copied.get(commit), f"{commit} was damaged, and loads"
                assert equal_states(loaded, state(*self.model.commits[commit].state))
        report = self.store.fsck()
        assert not report.ok
        return {commit for error in report.errors for commit in error.commits}


def _harm(path: Path, how: str, offset: int) -> None:
    if how == "delete":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << offset % 8
    path.write_bytes(data[:offset] if how == "cut" else data)
