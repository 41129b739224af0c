"""fsck: every checksum, link and base of a store, and which commits what is wrong affects."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from castore.chunks import pack
from castore.errors import CorruptError
from castore.maintenance.affected import affected
from castore.maintenance.decode_check import by_pack, undecodable
from castore.maintenance.file_checks import check_files
from castore.maintenance.history_check import check_history
from castore.maintenance.records import check_records, pack_name
from castore.maintenance.repair import repair as repair_store
from castore.maintenance.reports import FsckError, FsckReport
from castore.maintenance.restoring import copied
from castore.repo import Repository

_MOST_ATTEMPTS = 5  # while gc goes on beside


@dataclass(slots=True)
class _Findings:
    """Collected while the packs are read. bad: damaged records with the problem; bad_packs: packs to be replaced.

    lost: records that can't be decoded, or that history needs and no pack has.
    """

    errors: list[FsckError] = field(default_factory=list)
    bad: dict[bytes, FsckError] = field(default_factory=dict)
    bad_packs: set[bytes] = field(default_factory=set)
    lost: set[bytes] = field(default_factory=set)
    listed: dict[bytes, list[tuple[bytes, pack.Entry]]] = field(default_factory=dict)  # id -> where footers list it
    packs: int = 0
    records: int = 0
    read_bytes: int = 0


def fsck(repo: Repository, read_data: bool, repair: bool) -> FsckReport:
    """Check packs, index, refs, history and small files. What is wrong is reported; only a store that can't be opened
    raises.

    repair: take from second directories of tiers what is lost here, put what is damaged out of service, and make the
    index anew.
    """
    done: list[str] = []
    for _ in range(_MOST_ATTEMPTS):
        epoch = repo.chunks.access.use(lambda index: index.epoch())
        findings, report = _examined(repo, read_data, repair, done)
        if report.ok or repo.chunks.access.index.epoch() == epoch:
            break  # else gc swept meanwhile, and what looks wrong may be what it took
    if not repair or (report.ok and not done):
        return report
    with copied(repo) as copies:
        done.extend(copies.take(findings.lost))  # first, so that a crash finds more than there was, not less
        done.extend(repair_store(repo, findings.bad_packs, by_pack(findings.bad)))
        while findings.lost:  # a commit that was taken leads to a tree, that to chunks
            findings, _ = _examined(repo, False, False, done)
            taken = copies.take(findings.lost)
            if not taken:
                break
            done.extend(taken)
            repo.chunks.access.rebuild()  # deltas on what was taken count again
    return replace(fsck(repo, read_data, repair=False), repaired=tuple(done))


def _examined(repo: Repository, read_data: bool, repair: bool, done: list[str]) -> tuple[_Findings, FsckReport]:
    findings = _Findings()
    _check_packs(repo, findings, read_data)
    if not _index_is_right(repo, findings):
        if repair:  # first of all: what a wrong index says of a record must not take a good one out of service
            repo.chunks.access.rebuild()
            done.append("rebuilt the index, which was wrong")
        else:
            findings.errors.append(FsckError("the index is wrong about some records; --repair rebuilds it"))
    repo.chunks.access.mends = False
    try:
        if read_data:
            findings.bad = undecodable(repo, findings.bad)
        commits, history_errors, missing = check_history(repo)
        bad = {**missing, **findings.bad}
        errors = [*findings.errors, *affected(repo, bad, commits), *history_errors, *check_files(repo)]
    finally:
        repo.chunks.access.mends = True
    findings.lost = {*bad, *(bytes.fromhex(error.record) for error in history_errors if error.record)}
    numbers = (findings.packs, findings.records, len(commits), findings.read_bytes)
    return findings, FsckReport(not errors, *numbers, tuple(errors))


def _check_packs(repo: Repository, findings: _Findings, read_data: bool) -> None:
    ids = list(repo.chunks.files.ids())
    repo.progress.start("Checking packs", len(ids), "packs")
    for pack_id in ids:
        findings.packs += 1
        try:
            entries = repo.chunks.files.footer(pack_id)
        except FileNotFoundError:
            continue  # gc deleted it since it was listed
        except CorruptError as error:
            findings.bad_packs.add(pack_id)
            findings.errors.append(FsckError(f"{error}", pack=pack_name(pack_id)))
            continue
        findings.records += len(entries)
        for entry in entries:
            findings.listed.setdefault(entry.id, []).append((pack_id, entry))
        if read_data:
            _check_records(repo, findings, pack_id, entries)
        repo.progress.advance(1)
    repo.progress.finish()


def _check_records(repo: Repository, findings: _Findings, pack_id: bytes, entries: list[pack.Entry]) -> None:
    """Every byte between a pack's header and its footer."""
    for record in check_records(repo, pack_id, entries):
        findings.read_bytes += record.read_bytes
        if record.error is None:
            continue
        findings.bad_packs.add(pack_id)
        if record.lost:
            findings.bad[record.id] = record.error
        else:
            findings.errors.append(record.error)


def _index_is_right(repo: Repository, findings: _Findings) -> bool:
    """The index against the footers: it may lack dead records, but what it says must be so."""
    doubtful = []
    for record_id, place in repo.chunks.access.use(lambda index: list(index.items())):
        entry = place.entry(record_id)
        if (place.pack, entry) not in findings.listed.get(record_id, ()) and place.pack not in findings.bad_packs:
            doubtful.append(record_id)
    footers: dict[bytes, set[pack.Entry]] = {}
    if not doubtful:
        return True
    with repo.lock.held():  # commits and gc went on since the packs were read; now nothing moves
        repo.chunks.access.refresh()
        for record_id, found in zip(doubtful, repo.chunks.access.index.get_many(doubtful), strict=True):
            if found is None:
                continue
            if found.pack not in footers:
                footers[found.pack] = _footer(repo, found.pack)
            if found.entry(record_id) not in footers[found.pack]:
                return False
    return True


def _footer(repo: Repository, pack_id: bytes) -> set[pack.Entry]:
    try:
        return set(repo.chunks.files.footer(pack_id))
    except (FileNotFoundError, CorruptError):
        return set()
