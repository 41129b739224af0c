"""What states take in the store: each record that one needs, bases included, and what it needs alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from castore.history.drops import DROPPED, Drop
from castore.maintenance.needs import named
from castore.objects.commit import Commit
from castore.repo import Repository
from castore.retention.decide import Verdict

_BATCH = 4096


class Weights:
    """The records of states with their bytes; a `castore.retention.past.Weigh`. Commit objects, which stay, are left
    out, and so is what is in no pack: fsck tells of that."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._drops = repo.drops.read()

    def __call__(self, commit: Commit) -> Iterator[tuple[bytes, int]]:
        """Each record that what is left of a commit's state needs, once. Raises CorruptError, MissingError."""
        return self.records(commit, self._drops.get(commit.id))

    def records(self, commit: Commit, drop: Drop | None) -> Iterator[tuple[bytes, int]]:
        """The same, as if `drop` was what is dropped of it."""
        yield from self._with_bases(named(self._repo, commit, drop))

    def _with_bases(self, found: set[bytes]) -> Iterator[tuple[bytes, int]]:
        fmt = self._repo.chunks.files.format
        level: Sequence[bytes] = list(found)
        while level:
            below: list[bytes] = []
            for start in range(0, len(level), _BATCH):
                batch = level[start : start + _BATCH]
                places = self._repo.chunks.access.use(lambda index, ids=batch: index.get_many(ids))  # type: ignore[misc]
                for record_id, place in zip(batch, places, strict=True):
                    if place is not None:
                        bases = len(place.bases)
                        yield record_id, place.length + fmt.record_header_bytes(bases) + fmt.entry_bytes(bases)
                        fresh = [base for base in place.bases if base not in found]
                        found.update(fresh)
                        below += fresh
            level = below


@dataclass(frozen=True, slots=True)
class Holdings:
    """alone: by commit, the bytes that no other commit needs. freed_bytes: what gc can free once what a decision drops
    is dropped, if it rewrites every pack, and no reflog leads to what nothing else does."""

    alone: dict[str, int]
    freed_bytes: int


def holdings(repo: Repository, verdicts: Iterable[Verdict]) -> Holdings:
    """What commits hold that have a state before a decision. Raises CorruptError, MissingError."""
    weights = Weights(repo)
    holders: dict[bytes, str | None] = {}  # None: several
    sizes: dict[bytes, int] = {}
    needed: set[bytes] = set()
    listed = [one for one in verdicts if one.before != DROPPED]
    repo.progress.start("Weighing", len(listed), "commits")
    for one in listed:
        commit_id = one.commit.id
        stays: set[bytes] | None = None if one.after != DROPPED else set()
        if one.components and one.after != one.before:
            left = Drop(commit_id, one.commit.time, one.rule, one.components)
            stays = {record_id for record_id, _ in weights.records(one.commit, left)}
        for record_id, record_bytes in weights(one.commit):
            sizes[record_id] = record_bytes
            if holders.setdefault(record_id, commit_id) != commit_id:
                holders[record_id] = None
            if stays is None or record_id in stays:
                needed.add(record_id)
        repo.progress.advance(1)
    repo.progress.finish()
    alone = {one.commit.id: 0 for one in listed}
    for record_id, holder in holders.items():
        if holder is not None:
            alone[holder] += sizes[record_id]
    return Holdings(alone, sum(record_bytes for record_id, record_bytes in sizes.items() if record_id not in needed))
