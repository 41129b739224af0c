"""Repack: deltas placed anew, so that the newest states load fast and old ones take little, and small packs merged.

A record may be encoded against another base at any time, since a chunk's id is the hash of its raw bytes: only its
place changes. Whoever needs the chunk meanwhile finds the one record or the other, and both decode to it. What is to
stand on what: `placement`. All is planned and encoded without the store's lock, in batches, which are published one by
one; each begins another epoch of the index, so that gc and commits in flight look again. A crash loses a batch.

A commit made meanwhile may stand on a chunk that comes to lie deeper here. That stays readable: however deep commits
may go by the store's settings, and whatever is there lies, repack adds to it no more than what MAX_DEPTH leaves.

Memory: about 600 bytes for each chunk that a kept state needs. Beside that, however large the store and its states are,
16 versions of one chunk for each thread, with the codecs' own, and what is noted of 32,768 records that are moved.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from castore import _fs, config, limits
from castore.codecs.choice import expect
from castore.errors import LockTimeoutError, MissingError
from castore.limits import MIB
from castore.maintenance.copying import Copier
from castore.maintenance.pace import Pace
from castore.maintenance.repacking.blas import one_thread_each
from castore.maintenance.repacking.kept_states import Column, DepthOf, KeptStates
from castore.maintenance.repacking.packing import SMALL_BYTES, OvertakenError, Packing
from castore.maintenance.repacking.placement import Choice, Records, Track
from castore.maintenance.repacking.record_survey import survey_records
from castore.maintenance.repacking.reencode import Encodings, Stretch, encode, outlook
from castore.maintenance.reports import RepackReport
from castore.objects.commit import Commit
from castore.repo import Repository

_BATCH_BYTES = 512 * MIB  # raw, encoded between two publications
_WINDOW_STATES = 16  # of a line; what is left of their packs is moved once all of them are done
_COLUMN_BYTES = 64 * MIB  # of one column's chunks, raw, in a window


@dataclass(slots=True)
class _Sums:
    """What was done in all, over several attempts."""

    encodings: Encodings = field(default_factory=Encodings)
    moved_records: int = 0
    small_packs: int = 0


def repack(repo: Repository, dry_run: bool, pace: Pace) -> RepackReport:
    """Place deltas anew and merge small packs.

    dry_run: say what would be done; sizes are known only once it is, and whether anything is gained by coding what
    stands alone and raw, which is left out. Raises LockTimeoutError when another repack is at work, CorruptError when
    history can't be walked, UsageError for tiers that make no sense.
    """
    depth_of, newest = _depths(repo), repo.config.repack_newest
    if not dry_run and repo.config.repack_low_rank:
        repo.require_features(config.LOW_RANK)
    with contextlib.nullcontext() if dry_run else _alone(repo):
        before = repo.chunks.access.use(lambda index: index.packs())
        sums, access = _Sums(), repo.chunks.access
        while True:
            access.look_again()
            epoch = access.use(lambda index: index.epoch())
            attempt = None
            try:
                attempt = _Attempt(repo, epoch, sums, depth_of, newest, dry_run, pace)
                finished = attempt.run()
            except OvertakenError:
                continue
            except MissingError:
                if access.index.epoch() == (epoch if attempt is None else attempt.epoch):
                    raise
                continue  # gc took what is needed no more
            after = access.index.packs()
            return RepackReport(
                dry_run=dry_run,
                finished=finished,
                encoded_chunks=sums.encodings.records,
                encoded_bytes=sums.encodings.raw_bytes,
                moved_records=sums.moved_records,
                small_packs=sums.small_packs if dry_run else None,
                before_packs=len(before),
                after_packs=len(after),
                before_bytes=sum(before.values()),
                after_bytes=sum(after.values()),
                damaged={one.hex(): why for one, why in sums.encodings.damaged.items()},
            )


def _depths(repo: Repository) -> DepthOf:
    """How deep the chunks of a commit may lie: as its tier says, else as the store does."""
    tiers, usual = repo.tiers(), repo.config.repack_max_depth

    def depth_of(commit: Commit) -> int:
        own = tiers.max_depth(commit.tier)
        return usual if own is None else own

    return depth_of


@contextlib.contextmanager
def _alone(repo: Repository) -> Iterator[None]:
    with _fs.alone(repo.path / "repack.lock") as alone:
        if not alone:
            raise LockTimeoutError(f"another repack of {repo.path} is at work; let it finish")
        yield


class _Attempt:
    """One plan, carried out as far as nobody changes what it was made on."""

    def __init__(
        self, repo: Repository, epoch: int, sums: _Sums, depth_of: DepthOf, newest: int, dry_run: bool, pace: Pace
    ) -> None:
        self._repo = repo
        self._sums = sums
        self._dry_run = dry_run
        self._pace = pace
        self._states = KeptStates(repo)
        self._survey = survey_records(repo)
        deltas = repo.chunks.deltas
        above = max(self._survey.deepest, deltas.max_depth, deltas.max_depth_half, deltas.max_depth_predicted)
        most = self._states.most_depths(depth_of, newest, limits.MAX_DEPTH - above)
        self._records = Records(self._survey.bases, self._survey.resting, self._survey.uncoded, most)
        self._records.fix(self._survey.derived, self._survey.copies)
        self._span = max(deltas.max_span, max(most.values(), default=0))
        self._packing = Packing(repo, epoch, most, pace)
        self._is_over = False
        self._newest = newest
        chunk_bytes = repo.config.chunk_elements * 8
        self._window = max(2, min(_WINDOW_STATES, _COLUMN_BYTES // chunk_bytes))

    @property
    def epoch(self) -> int:
        return self._packing.epoch

    def run(self) -> bool:
        """Whether all was done before the time was over."""
        try:
            if not self._dry_run:
                self._packing.empty(self._doubled())
            for line in self._states.lines:
                if not self._repack_line(line):
                    return False
            return self._merge()
        finally:
            self._sums.moved_records += self._packing.moved_records

    def _doubled(self) -> list[bytes]:
        """Packs that a crash left with records which have their place elsewhere by now."""
        found, index = [], self._repo.chunks.access.index
        for pack_id in self._survey.unused:
            ids = [entry.id for entry in self._packing.entries(pack_id)]
            if any(place is not None and place.pack != pack_id for place in index.get_many(ids)):
                found.append(pack_id)
        return found

    def _repack_line(self, line: list[str]) -> bool:
        columns = self._states.columns(line)
        tracks = [Track(column.ids, self._records, self._span) for column in columns]
        at = [0] * len(columns)  # the next position of each
        end = self._newest if self._newest else self._window
        while True:
            left: set[bytes] = set()
            for batch in self._batches(columns, tracks, at, end):
                left |= self._encode(batch)
                if self._is_over:
                    break
            if left:
                self._packing.empty(left)
            if end >= len(line) or self._is_over:
                break
            end += self._window
        return not self._is_over

    def _batches(self, columns: list[Column], tracks: list[Track], at: list[int], end: int) -> Iterator[list[Stretch]]:
        """The stretches of a window, up to the state `end` of the line, in which something is to change."""
        batch: list[Stretch] = []
        size = 0
        for number, column in enumerate(columns):
            first = last = at[number]
            while last < len(column.ids) and column.states[last] < end:
                last += 1
            if first == last:
                continue
            at[number] = last
            positions = range(first, last)
            then, choices = outlook(tracks[number], positions)
            changing = [
                chunk
                for chunk, choice in zip(column.ids[first:last], choices, strict=True)
                if choice is not None and choice.changes and (not self._dry_run or self._is_certain(chunk, choice))
            ]
            if not changing or self._dry_run:
                tracks[number] = then
            if not changing:
                continue
            places = self._repo.chunks.access.use(lambda index, ids=changing: index.get_many(ids))  # type: ignore[misc]
            raw_bytes = sum(place.raw_length for place in places if place is not None)
            if batch and size + raw_bytes > _BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(Stretch(column, tracks[number], positions, len(changing), raw_bytes))
            size += raw_bytes
        if batch:
            yield batch

    def _is_certain(self, chunk: bytes, choice: Choice) -> bool:
        """Whether a record is going to be written anew: one that is raw may be what it should be."""
        return choice.base is not None or chunk in self._records.bases

    def _encode(self, batch: list[Stretch]) -> set[bytes]:
        """Encode and publish a batch; returns the packs in which something lies that has its place elsewhere now."""
        done = Encodings()
        raw_bytes = sum(stretch.raw_bytes for stretch in batch)
        if self._dry_run:
            done.records, done.raw_bytes = sum(stretch.chunks for stretch in batch), raw_bytes
            self._sums.encodings.add(done)
            return set()
        began = time.monotonic()
        expect(raw_bytes)
        self._repo.progress.start("Encoding", raw_bytes, "bytes")
        with one_thread_each(), Copier(self._repo) as copier:
            for one in self._repo.chunks.pool.map(lambda stretch: encode(self._repo, stretch, copier), batch):
                done.add(one)
            self._repo.progress.finish()
            if done.records:
                self._packing.publish(copier)
            else:
                self._packing.check()
        self._sums.encodings.add(done)
        self._pace.rest(began, done.raw_bytes)
        self._is_over = self._pace.is_over()
        return done.left

    def _merge(self) -> bool:
        """Merge small packs of what is needed, two at least. Those of what is not are left to gc."""
        sizes = self._repo.chunks.access.index.packs()
        small, unused = [], []
        for pack_id in sorted(one for one, size in sizes.items() if size < SMALL_BYTES):
            records = self._packing.in_use(pack_id)
            if any(self._packing.is_needed(*record) for record in records):
                small.append(pack_id)
            elif not records:
                unused.append(pack_id)
        if len(small) < 2:
            small = []
        if self._dry_run:
            self._sums.small_packs = len(small)
            return True
        return self._packing.empty([*small, *unused], until_over=True)
