"""Copying commits from one store to another, record by record as they are.

What reaches the disk in which order: the records in packs, read back and found to be what was written; then, with the
other store's lock held, its packs and index, what is said of the commits, and last the refs that lead to them. A copy
that ends before leaves records that nothing leads to: the next one takes them up, or gc does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime

from castore.chunks.index import Place
from castore.errors import MissingError, UsageError
from castore.history.drops import Drop
from castore.maintenance.copying import Copier
from castore.maintenance.needs import named
from castore.objects.commit import Commit
from castore.repo import Repository

_ATTEMPTS = 5  # while gc sweeps beside, here or there


def copy_commits(
    source: Repository,
    target: Repository,
    commits: Sequence[Commit],
    there: Container[str],
    publish: Callable[[], None],
    rule: str,
    time: datetime,
) -> int:
    """Copy commits with what is left of their states, and the commits before them; returns the bytes that it took.

    Those before them that the target lacks come without their states, and count as dropped there by `rule`, at `time`.
    there: the commits that refs of the target lead to already. publish: called with the target's lock held, when all
    has come: to let refs lead to the commits.

    Raises UsageError for stores of different hashes; MissingError and CorruptError, with nothing published, when the
    source has lost something of it; StorageError that names the target's file.
    """
    if source.hash.name != target.hash.name:
        raise UsageError(
            f"{target.path} names chunks by {target.hash.name} and {source.path} by {source.hash.name}: "
            "only stores of one hash can share records"
        )
    for attempt in range(_ATTEMPTS):
        swept = _epoch(source)
        try:
            copied = _copy(source, target, commits, there, publish, rule, time)
        except MissingError:
            if attempt + 1 == _ATTEMPTS or _epoch(source) == swept:
                raise
            continue  # gc moved records while they were read
        if copied is not None:
            return copied
    raise MissingError(f"gc sweeps {target.path} again and again; try again when it has ended")


def _epoch(repo: Repository) -> int:
    return repo.chunks.access.use(lambda index: index.epoch())


def _copy(
    source: Repository,
    target: Repository,
    commits: Sequence[Commit],
    there: Container[str],
    publish: Callable[[], None],
    rule: str,
    time: datetime,
) -> int | None:
    """One attempt; None where gc swept the target meanwhile."""
    epoch = _epoch(target)
    drops = {commit.id: source.drops.get(commit.id) for commit in commits}
    before = _before(source, commits, there)
    missing = _missing(source, target, commits, drops, before)
    with Copier(source, target) as copier:
        source.progress.start("Copying", sum(place.length for place in missing.values()), "bytes")
        copier.copy(sorted(missing.items(), key=lambda item: (item[1].pack, item[1].offset)))
        copier.seal()
        copier.check()
        source.progress.finish()
        with target.lock.held():
            access = target.chunks.access
            access.refresh()
            if access.index.epoch() != epoch:
                return None
            packs, records = copier.publish()
            access.index.update(packs=packs, records=_unknown(target, records))
            access.after_update(access.index)
            target.drops.add([Drop(one, time, rule) for one in before])
            target.drops.add([drop for drop in drops.values() if drop is not None])
            target.drops.forget([one for one, drop in drops.items() if drop is None])
            publish()
    return sum(size for _, size in packs)


def _before(source: Repository, commits: Sequence[Commit], there: Container[str]) -> list[str]:
    """The commits before some that the target has not got yet."""
    found: dict[str, None] = {}
    pending = [parent for commit in commits for parent in commit.parents]
    chosen = {commit.id for commit in commits}
    while pending:
        one = pending.pop()
        if one not in found and one not in there:
            found[one] = None
            pending.extend(source.commit(one).parents)
    return [one for one in found if one not in chosen]


def _missing(
    source: Repository,
    target: Repository,
    commits: Sequence[Commit],
    drops: Mapping[str, Drop | None],
    before: Iterable[str],
) -> dict[bytes, Place]:
    """The records that the target needs and has not got, with their places in the source.

    A record that the target has can be decoded there: what it stands on is there too.
    """
    whole = [*map(source.commit, before), *commits]
    wanted = {bytes.fromhex(one) for commit in whole for one in (commit.id, commit.provenance) if one is not None}
    for commit in commits:
        wanted |= named(source, commit, drops[commit.id])
    found: dict[bytes, Place] = {}
    level = list(wanted)
    while level:
        there = target.chunks.access.use(lambda index, ids=level: index.get_many(ids))  # type: ignore[misc]
        lacking = [one for one, place in zip(level, there, strict=True) if place is None]
        places = dict(zip(lacking, source.chunks.places(lacking), strict=True))
        found.update(places)
        level = list({base for place in places.values() for base in place.bases} - found.keys())
    return found


def _unknown(target: Repository, records: list[tuple[bytes, Place]]) -> list[tuple[bytes, Place]]:
    """Those that the target lacks still: a second place for what another brought meanwhile could close a circle."""
    there = target.chunks.access.index.get_many([record_id for record_id, _ in records])
    return [record for record, place in zip(records, there, strict=True) if place is None]
