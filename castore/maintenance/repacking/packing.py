"""Publishing packs that maintenance wrote, and moving out of packs what is still in use in them.

Nothing that the index has is taken from it here: every record of a pack that goes has a place in another one. So
nobody needs to know what is alive to make this safe; gc alone decides that. What no kept state needs goes into packs of
its own, which gc can delete as they are.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence

from castore import limits
from castore.chunks import pack
from castore.chunks.index import Place
from castore.errors import CastoreError, CorruptError, MissingError
from castore.limits import MIB
from castore.maintenance.copying import Copier
from castore.maintenance.pace import Pace
from castore.repo import Repository

SMALL_BYTES = 64 * MIB  # packs below this are merged

_GROUP_RECORDS = 1 << 15  # moved between two publications


class OvertakenError(CastoreError):
    """The index began another epoch: what was planned on has moved. Never leaves repack, which plans again."""


class Packing:
    """Publishes what was made of one plan: each publication begins the epoch that the next one expects.

    needed: the ids of the chunks that kept states need. moved_records: so far.
    """

    def __init__(self, repo: Repository, epoch: int, needed: Collection[bytes], pace: Pace) -> None:
        self._repo = repo
        self._pace = pace
        self.epoch = epoch
        self._needed = needed
        self.moved_records = 0

    def publish(self, copier: Copier, gone: Iterable[bytes] = ()) -> None:
        """Move records in that were written, and delete packs of which no record has its place any more.

        In what order things reach the disk: new packs, the index, the deletion of old ones. After a crash in between a
        record lies in two packs: the next repack or gc deals with it. Raises OvertakenError, with nothing done.
        """
        repo, access = self._repo, self._repo.chunks.access
        copier.seal()
        with repo.lock.held():
            access.refresh()
            if access.index.epoch() != self.epoch:
                raise OvertakenError("the index changed")
            packs, records = copier.publish()
            # The copy of all that a pack holds is that pack itself
            going = sorted(set(gone) - {pack_id for pack_id, _ in packs})
            access.index.update(packs=packs, records=records, gone_packs=going, swept=True)
            access.after_update(access.index)
            self.epoch = access.index.epoch()
            repo.chunks.delete_packs(going)

    def check(self) -> None:
        """Raises OvertakenError when something was published that this plan does not know."""
        if self._repo.chunks.access.use(lambda index: index.epoch()) != self.epoch:
            raise OvertakenError("the index changed")

    def entries(self, pack_id: bytes) -> list[pack.Entry]:
        """What a pack holds. Nothing, and a note, if it can't be read: fsck says more."""
        try:
            return self._repo.chunks.files.footer(pack_id)
        except FileNotFoundError:
            return []  # gone since, by gc: nothing of this plan will be published
        except CorruptError as error:
            self._repo.progress.note(f"pack {pack_id.hex()} is left as it is: {error}; run `castore fsck --repair`")
            return []

    def in_use(self, pack_id: bytes) -> list[tuple[bytes, Place]]:
        """The records that have their place in a pack, in its order."""
        ids = [entry.id for entry in self.entries(pack_id)]
        places = self._repo.chunks.access.index.get_many(ids)
        found = [(one, at) for one, at in zip(ids, places, strict=True) if at is not None and at.pack == pack_id]
        return sorted(found, key=lambda item: item[1].offset)

    def is_needed(self, record_id: bytes, place: Place) -> bool:
        """Whether a record is to lie among those that are loaded. Objects take next to nothing, and stay together."""
        return place.kind != pack.CHUNK or record_id in self._needed

    def empty(self, pack_ids: Iterable[bytes], until_over: bool = False) -> bool:
        """Move what is in use in packs to new ones, and delete them. A damaged pack stays, and that is said.

        until_over: end when the time is over; returns False then.
        """
        for number, group in enumerate(self._groups(sorted(pack_ids))):
            if number and until_over and self._pace.is_over():
                return False
            began = time.monotonic()
            moving = sum(place.length for _, records in group for _, place in records)
            self._repo.progress.start("Moving", moving, "bytes")
            with Copier(self._repo) as kept, Copier(self._repo) as rest:
                gone = [pack_id for pack_id, records in group if self._copy(pack_id, records, kept, rest)]
                if not rest.is_empty:
                    self.publish(rest)
                self._repo.progress.finish()
                self.publish(kept, gone)
            self._pace.rest(began, moving)
        return True

    def _groups(self, pack_ids: Sequence[bytes]) -> Iterator[list[tuple[bytes, list[tuple[bytes, Place]]]]]:
        group: list[tuple[bytes, list[tuple[bytes, Place]]]] = []
        size = count = 0
        for pack_id in pack_ids:
            try:
                records = self.in_use(pack_id)
            except CorruptError as error:
                self._repo.progress.note(f"pack {pack_id.hex()} is left as it is: {error}; run `castore fsck --repair`")
                continue
            length = sum(place.length for _, place in records)
            if group and (size + length > limits.PACK_TARGET_BYTES or count + len(records) > _GROUP_RECORDS):
                yield group
                group, size, count = [], 0, 0
            group.append((pack_id, records))
            size += length
            count += len(records)
        if group:
            yield group

    def _copy(self, pack_id: bytes, records: Sequence[tuple[bytes, Place]], kept: Copier, rest: Copier) -> bool:
        """Copy the records of a pack; whether all of them were good."""
        try:
            for record_id, place in records:
                (kept if self.is_needed(record_id, place) else rest).copy([(record_id, place)])
        except MissingError:
            raise  # gc took the pack since: nothing of this plan is published
        except CorruptError as error:
            self._repo.progress.note(f"pack {pack_id.hex()} is left as it is: {error}")
            return False
        self.moved_records += len(records)
        return True
