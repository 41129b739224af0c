"""Mirror: copies of the commits of each tier that names a second directory, which is a store that opens by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from castore import config
from castore.copies import directories, opened
from castore.errors import CastoreError, CorruptError
from castore.history.drops import DROPPED
from castore.maintenance.mirroring.copied import copies_in
from castore.maintenance.mirroring.mirror_refs import MirrorRefs
from castore.maintenance.mirroring.transfer import copy_commits
from castore.maintenance.reports import Mirrored, MirrorReport
from castore.maintenance.survey import Read, read_history
from castore.objects.commit import Commit
from castore.repo import Repository

Clock = Callable[[], datetime]
_BATCH_BYTES = 256 << 20  # of states, by what they took here: what is copied, and made to count, in one go
_BATCH_COMMITS = 256


def mirror(repo: Repository, deadline: float | None, clock: Clock) -> MirrorReport:
    """Copy what the directories of tiers lack, oldest first. deadline: by `time.monotonic`, when no more is begun.

    What is wrong with a directory, or with a commit, is in the report, and keeps nothing else from being copied. May be
    interrupted at any time: what was copied before counts, and the next run goes on. Raises UsageError, CorruptError.
    """
    named = directories(repo)
    read = Read(read_history(repo, repo.tips()) if named else {})
    found = []
    for directory, tiers in named.items():
        work = _Directory(repo, read, tiers, clock)
        try:
            with opened(repo, directory, make=True) as target:
                work.copy(target, deadline)
        except CastoreError as error:
            work.error = error
        found.append(work.report(directory))
    return MirrorReport(tuple(found))


class _Directory:
    """The copying to one directory, and what came of it."""

    def __init__(self, repo: Repository, read: Read, tiers: tuple[str, ...], clock: Clock) -> None:
        self._repo = repo
        self._tiers = tiers
        self._read = read
        self._clock = clock
        self._rule = f"not in tier {' or '.join(tiers)}"
        self._wanted = [one for one in reversed(list(read.by_id.values())) if one.tier in tiers]  # oldest first
        self.copied = self.new_bytes = self.dropped = 0
        self.left = len(self._wanted)
        self.failed: list[str] = []
        self.error: CastoreError | None = None

    def report(self, directory: Path) -> Mirrored:
        """What came of it."""
        failed = tuple(self.failed)
        return Mirrored(
            directory, self._tiers, self.copied, self.new_bytes, self.left, self.dropped, failed, self.error
        )

    def copy(self, target: Repository, deadline: float | None) -> None:
        """Copy what the target lacks, as far as there is time. Raises StorageError, CorruptError for the target."""
        refs = MirrorRefs(self._repo, target, self._read)
        there = copies_in(target)
        commits, states = set(there.commits), set(there.states)
        drops = self._repo.drops.read()
        lacking = []
        for commit in self._wanted:
            if commit.id in states:
                continue
            if commit.id in drops and drops[commit.id].state == DROPPED:
                self.dropped += 1
            else:
                lacking.append(commit)
        self.left = len(lacking)
        with target.lock.held():
            self._say(target, commits)
            refs.publish(states, self._clock())
        for batch in _batches(lacking):
            if deadline is not None and time.monotonic() >= deadline:
                return
            try:
                self._copy(target, refs, batch, commits, states)
            except CorruptError:
                for commit in batch:  # one by one, so that damage of one keeps no other back
                    self._copy_one(target, refs, commit, commits, states)

    def _copy(
        self, target: Repository, refs: MirrorRefs, batch: Sequence[Commit], commits: set[str], states: set[str]
    ) -> None:
        """Copy commits, all or none; `commits` and `states` grow by what the target has then."""
        ids = {one.id for one in batch}
        known = {*ids, *refs.before(ids)}

        def publish() -> None:
            self._say(target, commits | known)
            refs.publish(states | ids, self._clock())

        self.new_bytes += copy_commits(self._repo, target, batch, commits, publish, self._rule, self._clock())
        self.copied += len(batch)
        self.left -= len(batch)
        commits |= known
        states |= ids

    def _copy_one(
        self, target: Repository, refs: MirrorRefs, commit: Commit, commits: set[str], states: set[str]
    ) -> None:
        try:
            self._copy(target, refs, [commit], commits, states)
        except CorruptError as error:
            self.failed.append(f"{commit.id[:12]} can't be copied: {error}")

    def _say(self, target: Repository, commits: Container[str]) -> None:
        """Of which tiers commits are now, and what was given up before them. Call with the target's lock held."""
        lost = self._repo.lost.read()
        if lost - target.lost.read():
            target.require_features(config.LOST)
            target.lost.add(lost, self._clock())
        target.moves.add(move for move in self._repo.moves.read().values() if move.commit in commits)


def _batches(commits: Sequence[Commit]) -> Iterator[list[Commit]]:
    batch: list[Commit] = []
    size = 0
    for commit in commits:
        batch.append(commit)
        size += commit.stats.total.stored_bytes
        if size >= _BATCH_BYTES or len(batch) == _BATCH_COMMITS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
