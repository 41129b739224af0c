"""Where deltas go when there is time: decisions only, no data. What each chunk is to stand on, newest first.

A track is one place of one tensor along a line of commits: the chunks that lay there, newest first. The newest stand
alone, so that they load fast; an older one is a delta to the nearest newer one that is shallow enough for it, until
that reaches further than `span`: then it stands alone, and those before it stand on it. Chains of nearest neighbours
give the smallest deltas, and a base that is newer than what stands on it is kept for at least as long under any rule
that prefers what is new.

What was placed so before stays where it is. Newer chunks come on top of the one that was the newest: it becomes a
delta itself if all that stands on it stays within its bounds, else it goes on standing alone. So a repack touches what
is new and no more, and a second one nothing.

Why no circle can arise, and no chain too deep, whatever happens between two publications: a new delta stands on a
chunk of its own track which is settled, and so is all that this one stands on. Records that are settled are published
in the order of their settling, no later than what stands on them, and are not changed again by the same run. So what
lies below a new delta never leads back to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Records:
    """What is known of a store's records, by id.

    bases: of each delta. resting: those that stand alone since a delta did not pay when one was tried. uncoded: whole
    ones stored raw, which a commit in haste may have left for later. most: how deep
    each chunk that a kept state needs may lie; all others are needed by nothing. fixed: records that are derived from
    several chunks or from another tensor, for next to no bytes, and stay what they are; below_fixed: their bases.
    """

    bases: Mapping[bytes, tuple[bytes, ...]]
    resting: set[bytes] = field(default_factory=set)
    uncoded: set[bytes] = field(default_factory=set)
    most: dict[bytes, int] = field(default_factory=dict)
    fixed: set[bytes] = field(default_factory=set)
    below_fixed: set[bytes] = field(default_factory=set)

    def fix(self, derived: Iterable[bytes], copies: Iterable[bytes]) -> None:
        """Fix those of the records `derived` (from several) and `copies` (of one chunk in another form) that can stay:
        all that they stand on is needed anyway, and may not come to lie deeper than they allow.

        A copy may always lie on what stands alone: who loads it mostly loads that as well.
        """
        copied = set(copies)
        self.fixed = {
            one
            for one in (*derived, *copied)
            if one in self.most and all(base in self.most for base in self.bases[one])
        }
        while too_deep := self._lowered(copied):
            self.fixed -= too_deep
        self.below_fixed = {base for one in self.fixed for base in self.bases[one]}

    def _lowered(self, copied: set[bytes]) -> set[bytes]:
        """Lower what fixed records stand on, as far as these demand. Returns those that lie too deep even so; then
        nothing was done."""
        most = {one: max(self.most[one], 1) for one in copied & self.fixed}
        too_deep: set[bytes] = set()
        open_ids = list(self.fixed)
        while open_ids:
            one = open_ids.pop()
            below = most.get(one, self.most[one]) - 1
            if below < 0:
                too_deep.add(one)
                continue
            for base in self.bases[one]:
                if most.get(base, self.most[base]) > below:
                    most[base] = below
                    if base in self.fixed:
                        open_ids.append(base)
        if not too_deep:
            self.most.update(most)
        return too_deep


@dataclass(frozen=True, slots=True)
class Choice:
    """What a chunk is to stand on, None for nothing; span: versions since the one that stands alone. changes: it does
    not yet, or its record may be made smaller."""

    base: bytes | None
    span: int
    changes: bool


@dataclass(frozen=True, slots=True)
class _Settled:
    """A chunk of the track that others may stand on. root: the position of what stands alone below it."""

    id: bytes
    depth: int
    root: int


class Track:
    """Chunks of one place, newest first, none twice, placed one after another."""

    def __init__(self, ids: Sequence[bytes], records: Records, span: int) -> None:
        self.ids = ids
        self._records = records
        self._span = span
        self._settled: dict[bytes, _Settled] = {}  # newest first; only as far back as deltas reach

    def copy(self) -> Track:
        """The same, to be gone on with apart: what if all deltas pay?"""
        other = Track(self.ids, self._records, self._span)
        other._settled = dict(self._settled)
        return other

    def choose(self, at: int) -> Choice | None:
        """What the chunk at a position is to stand on; None when it is to be left as it is, and nothing on it."""
        chunk = self.ids[at]
        if chunk in self._records.fixed:
            return None
        bases, most = self._records.bases.get(chunk, ()), self._records.most[chunk]
        if most == 0:
            return Choice(bases[0], 1, False) if self._is_near(chunk, bases) else self._alone(chunk)
        if not bases and chunk in self._records.resting:
            return Choice(None, 0, False)
        now = self._settled.get(bases[0]) if len(bases) == 1 else None
        if now is not None and now.depth < most and at - now.root <= self._span:
            return Choice(now.id, at - now.root, False)
        for one in reversed(self._settled.values()):
            if one.depth < most and at - one.root <= self._span:
                if not bases and not self._carries(at, one):
                    break
                return Choice(one.id, at - one.root, True)
        return self._alone(chunk)

    def _alone(self, chunk: bytes) -> Choice:
        return Choice(None, 0, chunk in self._records.bases or chunk in self._records.uncoded)

    def _is_near(self, chunk: bytes, bases: Sequence[bytes]) -> bool:
        """Whether a chunk of a newest state stands on another tensor's, of a newest state too and standing alone: such
        as a fine-tuned model's on the one that it began from. It loads in at most two steps as it is."""
        records = self._records
        return (
            len(bases) == 1
            and records.most.get(bases[0]) == 0
            and bases[0] not in records.bases
            and bases[0] not in self.ids
            and chunk not in records.below_fixed
        )

    def _carries(self, at: int, base: _Settled) -> bool:
        """Whether what stands on the chunk at `at`, and may if that stands alone, may come to lie on `base` as well."""
        depths = {self.ids[at]: 0}
        for position in range(at + 1, min(len(self.ids), at + 1 + self._span)):
            chunk = self.ids[position]
            bases = self._records.bases.get(chunk, ())
            if len(bases) != 1 or bases[0] not in depths or chunk in self._records.fixed:
                continue
            depth, most = depths[bases[0]] + 1, self._records.most[chunk]
            if depth > most:
                continue
            depths[chunk] = depth
            if depth + base.depth + 1 > most or position - base.root > self._span:
                return False
        return True

    def settle(self, at: int, base: bytes | None) -> None:
        """The chunk at a position stands on this now. Positions are settled in order."""
        below = self._settled.get(base) if base is not None else None
        depth, root = (below.depth + 1, below.root) if below is not None else (int(base is not None), at)
        self._settled[self.ids[at]] = _Settled(self.ids[at], depth, root)
        gone = [one.id for one in self._settled.values() if at - one.root >= self._span]
        for chunk in gone:
            del self._settled[chunk]

    def drop(self, chunk: bytes) -> None:
        """Nothing is to stand on this chunk: it can't be read."""
        self._settled.pop(chunk, None)
