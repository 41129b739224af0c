"""Salvage: a new store with all that is readable of a badly damaged one, which is not written to.

Packs are read record by record where their footers are gone; of every commit that is found, what can be decoded is
kept, and the rest counts as dropped. Refs that can be read are kept, and commits to which nothing leads get branches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from castore import _fs, config, repo
from castore.chunks import pack
from castore.config import Config
from castore.errors import CastoreError, CorruptError, UsageError
from castore.history.audit import INIT, AuditLog
from castore.history.drops import Drop, Drops
from castore.history.lost import Lost
from castore.maintenance.fsck import fsck
from castore.maintenance.gc import gc
from castore.maintenance.reports import SalvagedCommit, SalvageReport
from castore.maintenance.salvaging.names import bring_marks, bring_signatures, name_commits
from castore.maintenance.salvaging.records import bring
from castore.maintenance.salvaging.sources import hash_of, pack_files, settings_of, store_in
from castore.maintenance.salvaging.states import Left, left_of
from castore.objects.commit import Commit
from castore.progress import Progress
from castore.repo import Repository


def salvage(
    damaged: Path, directory: Path, others: Sequence[Path], time: datetime, progress: Progress
) -> SalvageReport:
    """Make a new store in `directory` of what is readable in `damaged`, and in other directories with copies of it.

    Raises StoreNotFoundError, StoreExistsError, StorageError for the new store's disk; UsageError when no file of any
    of them holds a record, or the new store would lie in one of them. A salvage that ends before leaves a store to be
    deleted.
    """
    roots = [store_in(one.absolute()) for one in (damaged, *others)]
    target = directory.absolute() if directory.name == repo.NAME else directory.absolute() / repo.NAME
    for root in roots:
        if root in (target, *target.parents):
            raise UsageError(f"{target} would lie in {root}, which is not to be written to; name another directory")
    files = [path for root in roots for path in pack_files(root)]
    settings = settings_of(roots[0])
    hash_ = hash_of(files, settings)
    repo.create(target, _settings(roots, settings, hash_.name))
    if settings is not None and settings.hash == hash_.name:
        _fs.replace(target / config.NAME, (roots[0] / config.NAME).read_bytes())
        config.require(target, config.KNOWN_FEATURES)
    new = Repository(target, progress)
    try:
        records = bring(files, new)
        found = _history(new, roots, time)
        gc(new, time, dry_run=False)
        return replace(found, path=target, packs=len(files), records=records, sound=fsck(new, True, False).ok)
    finally:
        new.close()


def _settings(roots: Sequence[Path], known: Config | None, hash_name: str) -> Config:
    """What the new store is made with: the name of the old one, so that its second directories know it."""
    if known is not None and known.hash == hash_name:
        return replace(known, features=config.KNOWN_FEATURES)
    with contextlib.suppress(CastoreError):
        inits = [one.event.detail for one in AuditLog(roots[0], False, dict).read() if one.event.action == INIT]
        if inits and (words := inits[-1].split()):
            return Config(uuid=words[0], features=config.KNOWN_FEATURES, hash=hash_name)
    for other in map(settings_of, roots[1:]):
        if other is not None and other.mirror_of:
            return Config(
                uuid=other.mirror_of,
                features=config.KNOWN_FEATURES,
                hash=hash_name,
                chunk_elements=other.chunk_elements,
            )
    return Config(features=config.KNOWN_FEATURES, hash=hash_name)


def _history(new: Repository, roots: list[Path], time: datetime) -> SalvageReport:
    """Give names to the commits that were found, and say what of them is lost."""
    commits = _commits(new)
    drops = _drops(roots, 2 * new.hash.size)
    left = {one.id: left_of(new, one, drops.get(one.id), time) for one in commits.values()}
    given_up = _given_up(roots, 2 * new.hash.size)
    missing = {parent for one in commits.values() for parent in one.parents if parent not in commits}
    provenances = {one.provenance for one in commits.values() if one.provenance and not _has(new, one.provenance)}
    with new.lock.held():
        new.drops.add([one.drop for one in left.values() if one.drop is not None])
        new.lost.add({*missing, *provenances}, time)
        bring_marks(new, roots, commits.keys())
        names = name_commits(new, roots, commits, time)
        bring_signatures(new, roots[0], commits.keys())
    return SalvageReport(
        path=Path(),
        packs=0,
        records=0,
        sound=False,
        commits=tuple(_told(commits[one], left[one]) for one in sorted(commits, key=lambda one: commits[one].time)),
        lost_commits=tuple(sorted(missing - given_up)),
        lost_provenance=tuple(sorted(one.id for one in commits.values() if one.provenance in provenances)),
        refs=names.kept,
        moved_refs=names.moved,
        lost_refs=tuple(names.lost),
        branches=names.found,
    )


def _told(commit: Commit, left: Left) -> SalvagedCommit:
    state = "present" if left.drop is None else left.drop.state
    return SalvagedCommit(commit.id, commit.step, commit.message, state, left.lost, left.all)


def _commits(new: Repository) -> dict[str, Commit]:
    found = {}
    for record_id, place in new.chunks.access.index.items():
        if place.kind == pack.COMMIT:
            with contextlib.suppress(CorruptError):  # its bytes are whole, and a newer castore wrote them
                found[record_id.hex()] = new.commit(record_id.hex())
    return found


def _drops(roots: Sequence[Path], length: int) -> dict[str, Drop]:
    """What retention had dropped. A copy says of commits that came without their state that it was dropped there: only
    what the store itself says counts."""
    file = Drops(roots[0], length)
    with contextlib.suppress(CastoreError):
        return file.read()
    return {}


def _given_up(roots: Sequence[Path], length: int) -> frozenset[str]:
    """What was lost before."""
    with contextlib.suppress(CastoreError):
        return Lost(roots[0], length).read()
    return frozenset()


def _has(new: Repository, record_id: str) -> bool:
    return new.chunks.access.index.get(bytes.fromhex(record_id)) is not None
