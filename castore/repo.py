"""An open store: its rooms, wired together. What operations and maintenance work on; `Store` is the door to it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from castore import _fs, config, limits
from castore.chunks import hashing, pack
from castore.chunks.bases import DeltaLimits
from castore.chunks.store import ChunkStore
from castore.errors import (
    CorruptError,
    DroppedError,
    StoreExistsError,
    StoreNotFoundError,
    UnsupportedStoreError,
    UsageError,
)
from castore.history import marks
from castore.history.accesses import Accesses
from castore.history.audit import INIT
from castore.history.audit_line import Event
from castore.history.drops import Drops
from castore.history.lost import Lost
from castore.history.mirrors import Mirrors
from castore.history.moves import TierMoves
from castore.history.nearest_kept import nearest_kept
from castore.history.pins import Pins
from castore.history.protection import Protection
from castore.history.refs import Refs
from castore.history.revision import resolve
from castore.history.signatures import Signatures
from castore.history.verifications import Verifications
from castore.kernels import compiling
from castore.monitoring.alerts import Alerts
from castore.monitoring.events import Events
from castore.objects import codec, nodes, provenance
from castore.objects.commit import Commit
from castore.objects.patterns import fitting
from castore.objects.provenance import Provenance
from castore.objects.read_tree import TreeReader
from castore.progress import Progress, Silent
from castore.quiet import no_collection
from castore.retention import tiers

NAME = ".castore"

_OWN_DIRECTORIES = {  # of a store, by the directory that they are in: what is deleted and renamed lies there
    "": ("packs", "incoming", "quarantine", "index", "refs", "logs", "signatures"),
    "packs": frozenset(f"{number:02x}" for number in range(256)),
    "refs": ("heads", "tags"),
    "logs": ("refs",),
    "logs/refs": ("heads",),
    "signatures": ("commits", "tags"),
}


class Repository:
    """path: the `.castore` directory. Raises StoreNotFoundError, UnsupportedStoreError, CorruptError."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.config = config.read(path)
        for directory, names in _OWN_DIRECTORIES.items():
            _fs.refuse_links(path / directory, names)
        kind = _fs.network_file_system(path)
        if kind is not None:
            raise UnsupportedStoreError(
                f"{path} lies on a network file system ({kind}); keep the store on a local disk"
            )
        self.progress: Progress = progress or Silent()
        compiling.on_compile = self.progress.note
        self.hash = hashing.by_name(self.config.hash)
        self.lock = _lock(path)
        checked = config.CHECKS in self.config.features
        self.refs = Refs(path, 2 * self.hash.size, self.lock, self.config.audited, checked)
        self.audit = self.refs.audit
        self.drops = Drops(path, 2 * self.hash.size)
        self.pins = Pins(path, 2 * self.hash.size)
        self.signatures = Signatures(path, 2 * self.hash.size)
        self.moves = TierMoves(path, 2 * self.hash.size)
        self.lost = Lost(path, 2 * self.hash.size)
        self.mirrors = Mirrors(path)
        self.verifications = Verifications(path, 2 * self.hash.size)
        self.accesses = Accesses(path, 2 * self.hash.size)
        deltas = DeltaLimits(
            self.config.max_depth, self.config.max_depth_half, self.config.max_depth_predicted, self.config.max_span
        )
        self.chunks = ChunkStore(path, self.hash, deltas, self.lock, self.progress)
        self.events = Events(path, self.chunks.access.read_only, self.progress.note)
        self.alerts = Alerts(path, self.events, self.progress.note)
        self.made: tuple[str, nodes.Node] | None = None  # the last commit that was made here, and its tree

    def require_features(self, *more: str) -> None:
        """Before anything is written: the store names what a program must know to read what this one writes."""
        if config.FEATURES.union(more) - self.config.features:
            with self.lock.held():
                marks.remove_empty(self.path)
                config.require(self.path, config.FEATURES.union(more))
            self.config = config.read(self.path)
            self.refs.reflog.checked = True

    def protection(self) -> Protection:
        """Which branches and tags are protected. Raises UsageError that names castore.toml and what is wrong there."""
        try:
            return Protection.from_mapping(self.config.protect)
        except UsageError as error:
            raise UsageError(f"{self.path / config.NAME}: {error}") from None

    def tiers(self) -> tiers.Tiers:
        """The tiers of castore.toml, or those that there are by default. Raises UsageError that names the file."""
        try:
            return tiers.read(self.config.tiers)
        except UsageError as error:
            raise UsageError(f"{self.path / config.NAME}: {error}") from None

    def commit(self, commit_id: str) -> Commit:
        """The commit of a full id in hex, with the tier that it is of now, and without what was given up before it.

        Raises MissingError, CorruptError.
        """
        found = codec.decode(commit_id, self.chunks.object(bytes.fromhex(commit_id), pack.COMMIT))
        if config.LOST in self.config.features and (lost := self.lost.read()):
            parents = tuple(one for one in found.parents if one not in lost)
            found = replace(found, parents=parents, provenance=None if found.provenance in lost else found.provenance)
        moved = self.moves.get(commit_id)
        return found if moved is None else replace(found, tier=moved.tier)

    def provenance(self, commit: Commit) -> Provenance | None:
        """What produced a commit; None for one of an older version. Raises MissingError, CorruptError."""
        if commit.provenance is None:
            return None
        data = self.chunks.object(bytes.fromhex(commit.provenance), pack.PROVENANCE)
        return provenance.decode(data, f"what produced commit {commit.id[:12]}")

    def commits_with_prefix(self, prefix: str) -> list[str]:
        """Full ids of up to 16 commits whose id starts with `prefix`."""
        return self.chunks.commits_with_prefix(prefix, 16)

    def resolve(self, rev: str) -> str:
        """The full id of the commit that a revision names. Raises RevisionError, AmbiguousRevisionError."""
        return resolve(rev, self.refs, self, self.refs.reflog)

    def tree_reader(self) -> TreeReader:
        return TreeReader(self.chunks.object, self.hash.size)

    def tree(self, commit: Commit) -> nodes.Node:
        """The tree of a commit, whole: what is in it, without its data. Of what retention dropped, tensors say so.

        Raises DroppedError when the whole state was dropped, MissingError, CorruptError.
        """
        drop = self.drops.get(commit.id)
        if drop is not None and not drop.components:
            went = f"commit {_called(commit)} was dropped on {drop.time:%Y-%m-%d} by {drop.rule}"
            raise DroppedError(f"{went}; {self._instead(commit)}")
        with no_collection():
            root = self.tree_reader().read(bytes.fromhex(commit.tree))
        if drop is not None:
            went = f"{', '.join(drop.components)} on {drop.time:%Y-%m-%d} by {drop.rule}"
            gone = f"commit {_called(commit)} lost {went}"
            for entry in fitting(root, drop.components):
                entry.dropped = gone
        return root

    def _instead(self, commit: Commit) -> str:
        """What to load when a state was dropped."""
        dropped = self.drops.read()
        try:
            kept = nearest_kept(commit, self.tips(), lambda one: one not in dropped, self)
        except CorruptError as error:  # that is not why this state can't be had
            return f"what is kept near it can't be told: {error}"
        return "no state near it is kept" if kept is None else f"the nearest state that is kept is {_called(kept)}"

    def tips(self) -> set[str]:
        """The commits that history begins from: those that branches, tags and HEAD name, and pins.

        Raises CorruptError: a partial set would mislead gc.
        """
        found = {*self.refs.branches().values(), *self.refs.tags().values(), *self.pins.read()}
        head = self.refs.head().commit
        return found | ({head} if head is not None else set())

    def close(self) -> None:
        self.chunks.close()


def _called(commit: Commit) -> str:
    return commit.id[:12] + ("" if commit.step is None else f" (step {commit.step})")


def create(path: Path, settings: config.Config | None = None, shared: str | None = None) -> None:
    """Make an empty store at `path`, private to its owner or `shared` with a group.

    Raises StoreExistsError, StorageError, UsageError for a group that is none, or not one of ours.
    """
    settings = settings or config.Config()
    hash_ = hashing.by_name(settings.hash)
    group = None if shared is None else _group(shared)
    kind = _fs.network_file_system(path.parent)
    if kind is not None:
        raise UnsupportedStoreError(f"{path} would lie on a network file system ({kind}); choose a local disk")
    _make_parents(path.parent, group)
    _fs.make_dir(path, private=True)
    if group is not None and not (path / config.NAME).exists():
        _fs.share(path, group)
    lock = _lock(path)
    with lock.held():  # the processes of a distributed job all begin at once
        if (path / config.NAME).exists():
            raise StoreExistsError(f"{path} is a castore store already; open it, or choose another directory")
        for name in ("packs", "incoming"):
            _fs.make_dir(path / name)
        refs = Refs(path, 2 * hash_.size, lock)
        refs.initialise()
        refs.audit.append(Event(INIT, detail=f"{settings.uuid} {settings.hash}"))
        config.write(settings, path)  # last: with it the store is one


def _lock(path: Path) -> _fs.Lock:
    """The lock of the store at `path`; who finds that a holder died makes the names of packs and refs durable."""
    derived = ("incoming", "index")
    return _fs.Lock(path / "lock", limits.LOCK_TIMEOUT_S, lambda: _fs.sync_dirs(path, leave_out=derived))


def _make_parents(path: Path, group: int | None) -> None:
    made = []
    existing = path
    while not existing.exists():
        made.append(existing)
        existing = existing.parent
    _fs.make_dirs(path, existing, private=True)
    if group is not None:
        for directory in made:
            _fs.share(directory, group)  # else the group would not get to the store in it


def _group(name: str) -> int:
    """The number of a group, by its name or that number."""
    import grp

    try:
        number = int(name) if name.isdecimal() and len(name) < 10 else grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"there is no group {name!r} on this machine; `getent group` lists them") from None
    if os.geteuid() != 0 and number not in {os.getegid(), *os.getgroups()}:
        raise UsageError(f"you are not in the group {name!r}, so the store can't be shared with it; `id` lists yours")
    return number


def is_store(path: Path) -> bool:
    """Whether a directory is a store. Raises StorageError where that can't be seen."""
    file = path / config.NAME
    with _fs.storage_errors("read", file):
        return file.is_file()


def locate(path: Path) -> Path:
    """The store that `path` names: itself, or the `.castore` in it. Raises StoreNotFoundError, StorageError."""
    for candidate in (path, path / NAME):
        if is_store(candidate):
            return candidate
    hint = f"make one with `castore init {path}`" if not path.is_file() else "that is a file"
    raise StoreNotFoundError(f"{path} is not a castore store and has none in it; {hint}")


def discover(start: Path) -> Path:
    """The nearest `.castore` in `start` or above it. Raises StoreNotFoundError, StorageError."""
    start = start.resolve()
    for directory in (start, *start.parents):
        if is_store(directory / NAME):
            return directory / NAME
    raise StoreNotFoundError(
        f"no castore store in {start} or above it; make one with `castore init`, or name one with -C"
    )
