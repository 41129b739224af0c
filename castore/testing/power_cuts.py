"""Power cuts: from the operations of a scenario, the directories that a cut at any moment could leave of a store.

    with recording(root) as record:            # root / ".castore" is, or becomes, the store
        store.commit(state)
        record.acknowledge(store)              # from here on this must survive
    for cut in cuts(record.trace()):
        put_cut(cut, empty_directory)
        ...                                    # `survival.violation` says what must hold

The index is not synced, and LMDB writes it without `castore._fs`: it is looked at before each operation, and a cut
leaves it as it was then, as it was earlier, without its data or with garbage.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from castore import _fs
from castore.store import Store
from castore.testing import fates, faults
from castore.testing.disk import Disk, Left, put
from castore.testing.survival import Account

ONCE = ("killed", "everything", "synced", "names", "bytes")  # one outcome at each moment
BY_CHANCE = ("torn", "subset")  # another one for each seed
KINDS = ONCE + BY_CHANCE
_BY_LMDB = ("data.mdb", "lock.mdb")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a caller has been told, after so many operations, that the store holds. Not promised: what it was seen to
    hold when a process had been killed, and may hold as well."""

    after: int
    account: Account
    promised: bool = True


@dataclass(frozen=True, slots=True)
class Trace:
    """A scenario, recorded.

    base: the disk when it began. indexes: by their directories' names, before each operation and at the end. start: how
    many operations are those of a process that was killed; cuts come later.
    """

    base: Disk
    operations: tuple[faults.Operation, ...]
    indexes: tuple[Mapping[str, bytes], ...]
    acknowledged: tuple[Acknowledged, ...]
    start: int = 0

    def until(self, position: int) -> Trace:
        """The trace of a process that was killed after so many operations."""
        told = tuple(one for one in self.acknowledged if one.after <= position)
        return Trace(self.base, self.operations[:position], self.indexes[: position + 1], told, position)

    def without(self, name: str, path: str = "") -> Trace:
        """The trace of a program that forgets the operations of a name, on files whose path ends in `path`."""
        kept = [n for n, one in enumerate(self.operations) if one.name != name or not str(one.path).endswith(path)]
        acknowledged = [replace(one, after=sum(n < one.after for n in kept)) for one in self.acknowledged]
        indexes = (*(self.indexes[n] for n in kept), self.indexes[-1])
        operations = tuple(self.operations[n] for n in kept)
        return Trace(self.base, operations, indexes, tuple(acknowledged), sum(n < self.start for n in kept))

    def told(self, position: int) -> tuple[Account, ...]:
        """What was acknowledged last before `position` operations were through, what would have been next, and what was
        seen in between: of each ref, one of them holds."""
        promised = [n for n, one in enumerate(self.acknowledged) if one.promised]
        last = max(n for n in promised if self.acknowledged[n].after <= position)
        next_ = min((n for n in promised if n > last), default=len(self.acknowledged))
        return tuple(one.account for one in self.acknowledged[last : next_ + 1])


@dataclass(frozen=True, slots=True)
class Cut:
    """One outcome. position: how many operations were through. index: what became of it, for people. trusted: its mark
    is put right, so that castore believes it."""

    position: int
    kind: str
    seed: int
    left: Left
    index: str
    trusted: bool

    @property
    def name(self) -> str:
        return f"after {self.position} operations, {self.kind}, index {self.index}, seed {self.seed}"


@dataclass(slots=True)
class Recording:
    """A scenario that is being recorded."""

    root: Path
    base: Disk
    recorder: faults.Recorder
    indexes: list[Mapping[str, bytes]]
    acknowledged: list[Acknowledged]
    start: int

    def acknowledge(self, account: Account | Store, promised: bool = True) -> None:
        """A call has returned: what the store says now must survive, if it was `promised`."""
        if isinstance(account, Store):
            account = Account.of(account)
        self.acknowledged.append(Acknowledged(len(self.recorder.operations), account, promised))

    def trace(self) -> Trace:
        indexes = (*self.indexes, _indexes(self.root))
        return Trace(self.base, tuple(self.recorder.operations), indexes, tuple(self.acknowledged), self.start)


@contextlib.contextmanager
def recording(root: Path, killed: Trace | None = None) -> Iterator[Recording]:
    """Record what happens below `root`. What is there already survives whatever comes.

    killed: what is there was done by a process that was killed, and survives no better than it says (see `put_killed`).
    """
    before = killed or Trace(Disk(root, leave_out=_BY_LMDB), (), ({},), ())
    indexes = list(before.indexes[:-1])
    with faults.record(before=lambda: indexes.append(_indexes(root))) as recorder:
        recorder.operations.extend(before.operations)
        yield Recording(root, before.base, recorder, indexes, list(before.acknowledged), before.start)


def put_killed(killed: Trace, root: Path) -> None:
    """Put in the place of all that is in `root`, where the trace was recorded, what the process left there."""
    for path in root.iterdir():
        shutil.rmtree(path)
    put_cut(next(cuts(killed, ["killed"])), root)


def _indexes(root: Path) -> Mapping[str, bytes]:
    found = {}
    for path in root.glob("**/index*/data.mdb"):
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.relative_to(root).as_posix()] = path.read_bytes()
    return found


def cuts(
    trace: Trace,
    kinds: Iterable[str] = KINDS,
    seeds: Iterable[int] = (0,),
    only: int | None = None,
    seen: set[bytes] | None = None,
) -> Iterator[Cut]:
    """The cuts at every moment of a trace, of each kind, and where chance decides, for each seed.

    Those that leave the same files, where the same is promised, count once. only: at one position. seen: what earlier
    calls left of this trace; what this one leaves is added.
    """
    seen = set() if seen is None else seen
    chosen = [(kind, seed) for kind in kinds for seed in (list(seeds) if kind in BY_CHANCE else [0])]
    disk = copy.deepcopy(trace.base)
    for position, operation in enumerate((*trace.operations, None)):
        if position >= trace.start and only in (None, position):
            for kind, seed in chosen:
                cut = _cut(trace, disk, position, kind, seed)
                fingerprint = _fingerprint(trace, cut)
                if fingerprint not in seen:
                    seen.add(fingerprint)
                    yield cut
        if operation is not None:
            disk.apply(operation)


def _cut(trace: Trace, disk: Disk, position: int, kind: str, seed: int) -> Cut:
    random = Random(f"{position} {kind} {seed}")
    left = disk.after_cut(fates.of(kind, random))
    if kind == "killed":
        index, trusted = "as it was", True
    else:
        index, trusted = random.choice(["as it was", "earlier", "missing", "garbage"]), False
        trusted = index == "garbage" and random.random() < 0.5
    files = dict(left.files)
    for directory in left.directories:
        if directory.rpartition("/")[2].startswith("index"):
            data = _index_data(trace, position, directory, index, random)
            if data is not None:
                files[f"{directory}/data.mdb"] = data
    return Cut(position, kind, seed, Left(left.directories, files), index, trusted)


def _index_data(trace: Trace, position: int, name: str, fate: str, random: Random) -> bytes | None:
    now = trace.indexes[position].get(name)
    match fate:
        case "as it was":
            return now
        case "earlier":
            return trace.indexes[random.randrange(position + 1)].get(name)
        case "garbage" if now:
            return random.choice([b"", random.randbytes(len(now)), now[: random.randrange(1, len(now))]])
    return None


def _fingerprint(trace: Trace, cut: Cut) -> bytes:
    digest = hashlib.blake2b(repr((sorted(cut.left.directories), cut.trusted)).encode(), digest_size=16)
    for path, content in sorted(cut.left.files.items()):
        digest.update(f"{path} {len(content)} ".encode())
        digest.update(content)
    digest.update(repr([one.after <= cut.position for one in trace.acknowledged]).encode())
    return digest.digest()


def put_cut(cut: Cut, root: Path) -> None:
    """Make the directories of a cut in `root`, which is there and empty."""
    put(cut.left, root)
    for boot in root.glob("**/index/boot") if cut.trusted else ():
        found = boot.parent.parent.stat()
        boot.write_text(f"{_fs.boot_id() or 'synced'} {found.st_dev} {found.st_ino}\n")
