"""Garbage collection: mark without holding anyone up, copy what survives, then look and sweep shortly under the lock.

A commit in flight may count on a record that is swept here: the sweep begins another epoch of the index, and the
commit, which publishes under the same lock, sees that and puts it again. Another gc sees it too, and starts again: what
it surveyed has changed. In what order things reach the disk: surviving records in new packs, the index, the deletion of
old packs. After a crash in between, a record lies in two packs, or a pack that nobody needs is left: the next gc deals
with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from castore import _fs
from castore.chunks import pack
from castore.chunks.index import Place
from castore.errors import CorruptError, MissingError
from castore.history.audit_line import Event
from castore.maintenance.copying import Copier
from castore.maintenance.mark import Marker, logged
from castore.maintenance.pace import UNBOUND, Pace
from castore.maintenance.reports import GcReport, Unreachable
from castore.repo import Repository

_REWRITE_BELOW = 0.5  # of a pack's bytes alive: copying them costs less than what it frees
_MOST_NAMED = 1000  # unreachable commits in a report


@dataclass(slots=True)
class _Pack:
    """A pack as the mark found it. size: of its file. live_bytes: what the records take in a new pack that the index
    has there and something needs. dead: those that nothing needs. The rest is out of use already."""

    size: int
    live_bytes: int = 0
    dead: dict[bytes, Place] = field(default_factory=dict)


def gc(repo: Repository, expire_before: datetime, dry_run: bool, pace: Pace = UNBOUND) -> GcReport:
    """Delete every record that no ref needs. Raises CorruptError, with nothing deleted, if history is broken.

    pace: how fast it copies, while nobody waits for it; its deadline does not cut it short.

    A chunk that is lost for good, as after `fsck --repair`, does not keep the rest from being collected: once an index
    that was made anew does not know it either, it is passed over, and said.
    """
    if not dry_run:
        repo.require_features()
    access = repo.chunks.access
    tolerant = False
    while True:
        access.look_again()  # a pack that a crash kept out of the index is garbage, or comes from a backup
        epoch = access.use(lambda index: index.epoch())
        try:
            report = _collect(repo, epoch, expire_before, dry_run, tolerant, pace)
        except MissingError:
            if access.look_again() or access.index.epoch() != epoch:
                continue
            if tolerant:
                raise
            access.rebuild()
            tolerant = True
        else:
            if report is not None:
                return report


def _collect(
    repo: Repository,
    epoch: int,
    expire_before: datetime,
    dry_run: bool,
    tolerant: bool,
    pace: Pace,
) -> GcReport | None:
    """One attempt; None (or MissingError) when another gc, or a rebuild of the index, changed what it looked at."""
    repo.drops.require_whole()
    marker = Marker(repo, tolerant)
    repo.progress.start("Marking", None, "commits")
    marker.mark(repo.tips())
    by_refs = len(marker.commits)
    marker.mark(_logged(repo, expire_before))
    kept_by_reflogs = len(marker.commits) - by_refs
    repo.progress.finish()
    if marker.lost:
        repo.progress.note(f"{len(marker.lost)} chunks that history needs are in no pack; `castore fsck` says what of")
    packs = _survey(repo, marker.live)
    unreachable = _unreachable(repo, marker, packs)
    doomed = {
        pack_id: found
        for pack_id, found in packs.items()
        if found.live_bytes < _REWRITE_BELOW * (found.size - _around(repo))
    }
    if dry_run:
        live_bytes = sum(found.live_bytes for found in doomed.values())
        copied_bytes = live_bytes + _around(repo) if live_bytes else 0
        report = _report(marker, packs, doomed, copied_bytes, unreachable, dry_run=True)
        return replace(report, kept_by_reflogs=kept_by_reflogs)
    with Copier(repo) as copier:
        repo.progress.start("Copying", sum(found.live_bytes for found in doomed.values()), "bytes")
        copier.copy(
            ((one, place) for one, place in repo.chunks.access.index.in_packs(doomed) if one in marker.live), pace
        )
        copier.seal()
        repo.progress.finish()
        with repo.lock.held():
            repo.chunks.access.refresh()
            if repo.chunks.access.index.epoch() != epoch:
                return None
            report = _sweep(repo, marker, packs, doomed, copier, expire_before, unreachable)
            return replace(report, kept_by_reflogs=kept_by_reflogs)


def _logged(repo: Repository, expire_before: datetime) -> set[str]:
    """The commits that reflogs remember and the store still has: others were collected, or never published."""
    listed = sorted(logged(repo, expire_before))
    places = repo.chunks.access.use(lambda index: index.get_many([bytes.fromhex(one) for one in listed]))
    return {one for one, place in zip(listed, places, strict=True) if place is not None}


def _survey(repo: Repository, live: set[bytes]) -> dict[bytes, _Pack]:
    """What is alive and dead in each pack of the index."""
    fmt = repo.chunks.files.format
    packs = {pack_id: _Pack(size) for pack_id, size in repo.chunks.access.index.packs().items()}
    for record_id, place in repo.chunks.access.index.items():
        found = packs.get(place.pack)
        if found is None:
            continue  # a commit that was published since the packs were listed
        if record_id in live:
            bases = len(place.bases)
            found.live_bytes += place.length + fmt.record_header_bytes(bases) + fmt.entry_bytes(bases)
        else:
            found.dead[record_id] = place
    return packs


def _around(repo: Repository) -> int:
    """What a pack takes that has no record."""
    return pack.HEADER_BYTES + repo.chunks.files.format.trailer_bytes


def _sweep(
    repo: Repository,
    marker: Marker,
    packs: dict[bytes, _Pack],
    doomed: dict[bytes, _Pack],
    copier: Copier,
    expire_before: datetime,
    unreachable: tuple[Unreachable, ...],
) -> GcReport:
    """Call with the lock held. What refs came to need since the mark is not dead any more."""
    fresh = {
        *marker.mark_again(),
        *marker.mark(repo.tips(), collect=True),
        *marker.mark(_logged(repo, expire_before), collect=True),
    }
    for pack_id, found in packs.items():
        revived = [(record_id, found.dead.pop(record_id)) for record_id in found.dead.keys() & fresh]
        if pack_id in doomed:
            copier.copy(revived)
    new_packs, records = copier.publish()
    access = repo.chunks.access
    copied_bytes = sum(size for pack_id, size in new_packs if pack_id not in doomed)
    for pack_id, _ in new_packs:
        doomed.pop(pack_id, None)  # all of it came back to life, in the same order: the copy is the pack itself
    dead = {record_id: place for found in packs.values() for record_id, place in found.dead.items()}
    report = _report(marker, packs, doomed, copied_bytes, unreachable, dry_run=False)
    _audit(repo, report, dead, expire_before)
    protection = repo.protection()
    logs = (ref for ref in repo.refs.reflog.refs() if not protection.keeps_log(ref))
    expired = sum(repo.refs.reflog.expire(ref, expire_before) for ref in logs)
    access.index.update(packs=new_packs, records=records, gone_packs=doomed, gone_records=list(dead), swept=True)
    access.after_update(access.index)
    repo.chunks.delete_packs(doomed)
    repo.refs.remove_leftovers()
    access.remove_abandoned()
    repo.drops.forget(_gone(repo, repo.drops.read()))
    unused = [name for name in repo.signatures.tags() if repo.refs.tag(name) is None]
    repo.signatures.forget(_gone(repo, repo.signatures.commits()), unused)
    repo.moves.forget(_gone(repo, repo.moves.commits()))
    repo.verifications.forget(_gone(repo, repo.verifications.read()))
    repo.accesses.forget(_gone(repo, repo.accesses.read()))
    abandoned = sum(_fs.remove_abandoned(path) for path in sorted(repo.chunks.incoming.glob("*.pack")))
    return replace(report, expired_reflog_entries=expired, abandoned_files=abandoned)


def _audit(repo: Repository, report: GcReport, dead: Mapping[bytes, Place], expire_before: datetime) -> None:
    expired = f"reflog entries before {expire_before.isoformat(' ', 'seconds')} expired"
    told = f"{len(dead)} records removed, {report.freed_bytes} bytes freed, {expired}"
    commits = sorted(one.hex() for one, place in dead.items() if place.kind == pack.COMMIT)
    repo.audit.append(Event("gc", detail=told), *(Event("remove", one) for one in commits))


def _gone(repo: Repository, commits: Iterable[str]) -> list[str]:
    """Those of some commits that the store no longer has."""
    listed = list(commits)
    places = repo.chunks.access.index.get_many([bytes.fromhex(one) for one in listed])
    return [one for one, place in zip(listed, places, strict=True) if place is None]


def _report(
    marker: Marker,
    packs: dict[bytes, _Pack],
    doomed: dict[bytes, _Pack],
    copied_bytes: int,
    unreachable: tuple[Unreachable, ...],
    dry_run: bool,
) -> GcReport:
    return GcReport(
        dry_run=dry_run,
        live_chunks=len(marker.live),
        removed_chunks=sum(len(found.dead) for found in packs.values()),
        freed_bytes=sum(found.size for found in doomed.values()) - copied_bytes,
        removed_packs=sum(1 for found in doomed.values() if not found.live_bytes),
        rewritten_packs=sum(1 for found in doomed.values() if found.live_bytes),
        unreachable=unreachable,
    )


def _unreachable(repo: Repository, marker: Marker, packs: dict[bytes, _Pack]) -> tuple[Unreachable, ...]:
    """The commits among the dead, with why: by name, as far as they can be read."""
    logged = {one for ref in repo.refs.reflog.refs() for e in repo.refs.reflog.read(ref) for one in (e.old, e.new)}
    dead = [one for found in packs.values() for one, place in found.dead.items() if place.kind == pack.COMMIT]
    found: list[Unreachable] = []
    for record_id in dead[:_MOST_NAMED]:
        name = record_id.hex()
        why = (
            "only reflog entries older than the expiry lead to it"
            if name in logged
            else "no branch, tag, HEAD or reflog leads to it"
        )
        try:
            commit = repo.commit(name)
        except CorruptError as error:
            found.append(Unreachable(name, f"{why}; it is damaged: {error}"))
        else:
            found.append(Unreachable(name, why, commit.step, commit.message))
    return tuple(found)
