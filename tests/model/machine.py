"""A machine that does with a store what people do, and what befalls it, and holds it against a plain model."""

from __future__ import annotations

from hypothesis.stateful import initialize, invariant

import castore
from castore.testing.states import equal_states
from tests.model.damage_rules import Damage
from tests.model.names_rules import Names
from tests.model.states import state
from tests.model.states_rules import States
from tests.model.upkeep_rules import Upkeep


class Machine(States, Names, Upkeep, Damage):
    """steps: of all examples so far."""

    steps = 0

    @initialize()
    def begin(self) -> None:
        self.make("main", (0, 0))

    @invariant()
    def what_can_be_read_is_right(self) -> None:
        """Refs, and one commit after the other, by the store that did not act."""
        Machine.steps += 1
        store = self.stores[1 - self.acting]
        assert store.branches() == self.model.branches
        assert store.tags() == self.model.tags
        assert store.head().branch == self.model.head
        assert set(store.pins()) == self.model.pins
        if self.model.commits:
            ids = list(self.model.commits)
            self.check_load(store, ids[self.made % len(ids)])

    def teardown(self) -> None:
        try:
            if self.is_damaged:
                return  # a rule failed, and has said why
            for store in self.stores:
                for commit in self.model.commits:
                    self.check_load(store, commit)
            report = self.store.fsck()
            assert report.ok, report.errors
            audit = self.store.check_audit()
            assert (audit.errors, audit.notes) == ((), ())
            self._check_copies()
        finally:
            for store in self.stores:
                store.close()
            self.scratch.cleanup()

    def _check_copies(self) -> None:
        if not (self.root / "copies").exists():
            return
        known = {**self.model.gone, **self.model.commits}
        with castore.open(self.root / "copies") as copies:
            for commit, whole in self.model.copied.items():
                if whole:
                    assert equal_states(copies.load(commit), state(*known[commit].state))
            assert copies.fsck().ok
