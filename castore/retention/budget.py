"""A budget of bytes, spent on the states that are worth most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from castore.errors import UsageError
from castore.objects.commit import Commit
from castore.quantities import size
from castore.retention.keep import Chosen, KeepRule
from castore.retention.past import View, Weigh


@dataclass(frozen=True, slots=True)
class MaxBytes(KeepRule):
    """As many states as the budget has room for, those of the highest score first.

    What other rules keep is not charged to it: else a rule more could drop what was kept before.
    """

    text: str
    budget_bytes: int

    def chosen(self, view: View) -> Chosen:
        left = self.budget_bytes
        purse = Purse(view.weigh)
        for commit, score in scored(view):
            left -= purse.added_bytes(commit)
            if left < 0:
                return
            yield commit, f"score {score:.3g}"

    def check_kept(self, view: View, kept: Sequence[Commit]) -> Iterator[str]:
        purse = Purse(view.weigh)
        total = sum(purse.added_bytes(commit) for commit in kept)
        if total > self.budget_bytes:
            yield f"what the rules keep takes {size(total)}, more than --max-bytes {self.text}"


def scored(view: View) -> list[tuple[Commit, float]]:
    """The commits that have a state, with their scores, the highest first; of equal ones, the newest.

    The score of the n-th commit of a line that is the a-th newest: the greatest power of two that divides n, over a.
    The last ones are worth most, and further back one in 2, in 4, in 8 ... as much: a budget thins history with age,
    and keeps what it kept before when commits are added.
    """
    best: dict[str, tuple[float, Commit]] = {}
    for line in view.lines:
        total = len(line.everything)
        with_state = {commit.id for commit in line.commits}
        for place, commit in enumerate(line.everything):
            number = total - place
            score = (number & -number) / (place + 1)
            if commit.id in with_state and (commit.id not in best or best[commit.id][0] < score):
                best[commit.id] = score, commit
    ranked = sorted(best.values(), key=lambda one: one[0], reverse=True)  # stable: of equals, the newest first
    return [(commit, score) for score, commit in ranked]


class Purse:
    """What commits take together: each record is paid for once."""

    def __init__(self, weigh: Weigh | None) -> None:
        if weigh is None:
            raise UsageError("a budget of bytes needs to know what commits take; give `weigh`")
        self._weigh = weigh
        self._paid: set[bytes] = set()

    def added_bytes(self, commit: Commit) -> int:
        """The bytes of what a commit needs beside those before it."""
        added = 0
        for record_id, record_bytes in self._weigh(commit):
            if record_id not in self._paid:
                self._paid.add(record_id)
                added += record_bytes
        return added
