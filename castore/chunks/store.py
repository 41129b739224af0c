"""The chunk store: records by id, over packs and the index. What it holds means nothing to it."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from castore import _fs, limits
from castore.chunks import pack
from castore.chunks.access import IndexAccess
from castore.chunks.bases import DeltaLimits
from castore.chunks.decode import Decoder, Wanted
from castore.chunks.hashing import Hash
from castore.chunks.index import Index, Place
from castore.chunks.parallel import Pool
from castore.chunks.reader import PackFiles
from castore.chunks.session import WriteSession
from castore.chunks.writer import pack_path
from castore.codecs.choice import STANDALONE_WORTHWHILE
from castore.errors import CorruptError
from castore.limits import MIB
from castore.progress import Progress

_BATCH_BYTES = 4 * MIB  # raw bytes that one decoding task fills
_BATCH_CHUNKS = 512
_OBJECT_CACHE_BYTES = 4 * MIB
NOTHING_KNOWN: Mapping[bytes, memoryview] = {}


class ChunkStore:
    """Reads records, and opens sessions that write them.

    root: the `.castore` directory. deltas: how deep and how far back sessions write them.
    """

    def __init__(self, root: Path, hash_: Hash, deltas: DeltaLimits, lock: _fs.Lock, progress: Progress) -> None:
        self._root = root
        self.hash = hash_
        self.packs = root / "packs"
        self.incoming = root / "incoming"
        self.lock = lock
        self.deltas = deltas
        self.files = PackFiles(self.packs, hash_)
        self.access = IndexAccess(root, self.files, lock, progress)
        self.decoder = Decoder(self.access, self.files, hash_)
        self.pool = Pool()
        self._objects: collections.OrderedDict[bytes, bytes] = collections.OrderedDict()
        self._objects_bytes = 0
        self._epoch = -1

    def session(
        self, known: Mapping[bytes, memoryview] = NOTHING_KNOWN, worthwhile: float = STANDALONE_WORTHWHILE
    ) -> WriteSession:
        """A new writing session; use it as a context manager. known, worthwhile: see `WriteSession`."""
        epoch = self.access.use(lambda index: index.epoch())
        if epoch != self._epoch:
            self.files.close()  # gc swept: packs that it deleted keep their space for as long as we hold them open
            self._epoch = epoch
        return WriteSession(self._root, self.hash, self.access, self.decoder, self.deltas, epoch, known, worthwhile)

    def places(self, ids: Sequence[bytes]) -> list[Place]:
        """Where records lie. Raises MissingError."""
        return self.decoder.places(ids)

    def read(self, wanted: Iterable[Wanted], progress: Progress) -> None:
        """Fill every `out`, over all threads, each chunk verified against its id. Raises CorruptError, MissingError."""

        def work(batch: tuple[list[Wanted], Mapping[bytes, Place] | None]) -> int:
            self.decoder.decode(*batch)
            return sum(len(item.out) for item in batch[0])

        for done in self.pool.map(work, ((batch, self.decoder.foresee(batch)) for batch in _batches(wanted))):
            progress.advance(done)

    def chunk(self, record_id: bytes) -> bytes:
        """The raw bytes of one chunk."""
        return self._decoded(record_id, self.places((record_id,))[0])

    def _decoded(self, record_id: bytes, place: Place) -> bytes:
        if place.raw_length > limits.MAX_OBJECT_BYTES:
            raise CorruptError(f"record {record_id.hex()} claims {place.raw_length} bytes; run `castore fsck --repair`")
        data = bytearray(place.raw_length)
        self.decoder.decode([Wanted(record_id, place, memoryview(data))])
        return bytes(data)

    def object(self, record_id: bytes, kind: int) -> bytes:
        """An object's bytes. Raises MissingError, or CorruptError when a commit is asked for and it is none.

        Other kinds may differ: ids name bytes, so a tree and a chunk of the same bytes are one record, of either kind.
        """
        cached = self._objects.get(record_id)
        if cached is not None:
            return cached
        place = self.places((record_id,))[0]
        try:
            found = self._object(record_id, place, kind)
        except CorruptError:
            if not self.access.mend() and self.places((record_id,))[0] == place:
                raise  # else the index was wrong about its kind or its length, and is no more
            found = self._object(record_id, self.places((record_id,))[0], kind)
        self._objects[record_id] = found
        self._objects_bytes += len(found)
        while self._objects_bytes > _OBJECT_CACHE_BYTES:
            self._objects_bytes -= len(self._objects.popitem(last=False)[1])
        return found

    def _object(self, record_id: bytes, place: Place, kind: int) -> bytes:
        if pack.COMMIT in (kind, place.kind) and place.kind != kind:
            raise CorruptError(f"object {record_id.hex()} is of the wrong kind; run `castore fsck`")
        return self._decoded(record_id, place)

    def commits_with_prefix(self, prefix: str, most: int) -> list[str]:
        """Full ids, in hex, of up to `most` commits whose id starts with the hex digits `prefix`."""
        even = bytes.fromhex(prefix[: len(prefix) // 2 * 2])

        def search(index: Index) -> list[str]:
            found = []
            for record_id, place in index.items(even):
                text = record_id.hex()
                if place.kind == pack.COMMIT and text.startswith(prefix):
                    found.append(text)
                    if len(found) == most:
                        break
            return found

        found = self.access.use(search)
        if not found and self.access.look_again():
            found = self.access.use(search)
        return found

    def delete_packs(self, pack_ids: Iterable[bytes]) -> None:
        """Delete packs' files, durably. Call with the store's lock held, when the index knows them no more."""
        paths = [(pack_id, pack_path(self.packs, pack_id)) for pack_id in sorted(pack_ids)]
        for pack_id, path in paths:
            self.files.forget(pack_id)
            _fs.remove(path)
        for directory in sorted({path.parent for _, path in paths}):
            _fs.sync_dir(directory)

    def close(self) -> None:
        self.pool.close()
        self.files.close()
        self.access.close()


def _groups(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """What is wanted, each item with those that it is predicted from and that are wanted too, bases first.

    A batch decodes each record once, so that what a group shares is not decoded for each of its members.
    """
    items = list(wanted)
    by_id = {item.id: item for item in items}
    neighbours: dict[bytes, list[bytes]] = {}
    for item in items:
        if len(item.place.bases) > 1:
            for base in item.place.bases:
                if base in by_id:
                    neighbours.setdefault(item.id, []).append(base)
                    neighbours.setdefault(base, []).append(item.id)
    done: set[bytes] = set()
    for item in items:
        if item.id not in neighbours:
            yield [item]
        elif item.id not in done:
            group, open_ids = [], [item.id]
            while open_ids:
                one = open_ids.pop()
                if one not in done:
                    done.add(one)
                    group.append(by_id[one])
                    open_ids.extend(neighbours[one])
            yield group
    again = [item for item in items if item.id in done and by_id[item.id] is not item]
    yield from ([item] for item in again)  # the same chunk elsewhere


def _batches(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    batch: list[Wanted] = []
    size = 0
    for group in _groups(wanted):
        length = sum(len(item.out) for item in group)
        if batch and (size + length > _BATCH_BYTES or len(batch) >= _BATCH_CHUNKS):
            yield batch
            batch, size = [], 0
        batch += group
        size += length
    if batch:
        yield batch
