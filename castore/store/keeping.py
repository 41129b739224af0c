"""Store's methods that decide which states are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from castore.history.actor import now
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.history.drops import Drop
    from castore.history.pins import Pin
    from castore.maintenance.reports import Explanation, PruneReport
    from castore.retention.rules import Rules


class Keeping(Door):
    """Retention: rules, drops and pins."""

    def prune(
        self, rules: Rules | Mapping[str, Any] | None = None, dry_run: bool = False, branch: str | None = None
    ) -> PruneReport:
        """Drop the states that no rule keeps. Commits stay, with all that is said of them; gc frees the space.

        rules: such as `{"keep_last": 5, "keep_best": "loss=min:3"}`; default: those of castore.toml.
        branch: only what this branch leads to and no other. Heads, tags, pins, what a run began from, and the newest
        whole state of each branch are never dropped. Raises UsageError, RevisionError, StorageError.
        """
        from castore.maintenance.prune import configured, prune
        from castore.retention.rules import as_rules

        meant = configured(self._repo) if rules is None else as_rules(rules)
        if dry_run:
            return prune(self._repo, meant, branch, dry_run, now)
        with self._repo.events.timed("task", task="prune"):
            return prune(self._repo, meant, branch, dry_run, now)

    def why(self, rev: str, rules: Rules | Mapping[str, Any] | None = None) -> Explanation:
        """Which rules keep the state of a commit, or drop it, and the bytes that it alone holds.

        Raises RevisionError, UsageError.
        """
        from castore.maintenance.prune import configured, why
        from castore.retention.rules import as_rules

        return why(self._repo, rev, configured(self._repo) if rules is None else as_rules(rules), now)

    def retention_rules(self) -> Rules:
        """The rules of castore.toml, in `[retention]` and of its tiers. Raises UsageError that names what is wrong."""
        from castore.maintenance.prune import configured

        return configured(self._repo)

    def drops(self) -> dict[str, Drop]:
        """What retention dropped, by the id of the commit."""
        return self._repo.drops.read()

    def pins(self) -> dict[str, Pin]:
        """The pins, by the id of the commit."""
        return self._repo.pins.read()

    def pin(self, rev: str, reason: str = "") -> Pin:
        """Let neither retention nor gc touch a commit. Raises RevisionError, DroppedError."""
        from castore.operations.pins import pin

        return pin(self._repo, rev, reason, now())

    def unpin(self, rev: str) -> Pin:
        """Let go of a pinned commit; returns what its pin said. Raises RevisionError when it is not pinned."""
        from castore.operations.pins import unpin

        return unpin(self._repo, rev)
