"""What can be told of the small files of a store by themselves: by their checksums, their form, and the audit log."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from castore import config
from castore.errors import CorruptError
from castore.history import marks, ref_files
from castore.history.audit import INIT
from castore.history.audit_check import check
from castore.maintenance.reports import FsckError
from castore.repo import Repository

_FIRST_BRANCH = "main"  # that HEAD of a new store follows


def check_files(repo: Repository) -> list[FsckError]:
    """What is wrong with marks, mirrors, signatures, reflogs, refs and the audit log, and with castore.toml by that."""
    found = [*_mirrors(repo), *_signatures(repo), *_reflogs(repo), *_refs(repo), *_audit(repo)]
    found += _features(repo)
    return [*_marks(repo), *(FsckError(problem) for problem in found)]


def _problem(work: Callable[[], object]) -> str:
    """What keeps the work from being done, "" for nothing."""
    try:
        work()
    except CorruptError as error:
        return str(error)
    return ""


def _features(repo: Repository) -> Iterator[str]:
    """Whether castore.toml names what a program must know to read what is there."""
    needs = [(config.RETENTION, "dropped"), (config.RETENTION, "pins"), (config.TIERS, "tiers"), (config.LOST, "lost")]
    known = config.read(repo.path).features  # as it is now: another process may have added some
    there = {name for _, name in needs if (repo.path / name).exists()} - set(marks.empty(repo.path))
    lacking = [feature for feature, name in needs if name in there and feature not in known]
    if "packs-2" not in known and any(_is_of_version_2(repo, one) for one in repo.chunks.files.ids()):
        lacking.append("packs-2")
    if lacking:
        yield f"{repo.path / config.NAME} lacks {lacking[0]!r} among required_features, and the store needs it; add it"


def _is_of_version_2(repo: Repository, pack_id: bytes) -> bool:
    try:
        return repo.chunks.files.format_of(pack_id).version == 2
    except (CorruptError, FileNotFoundError):
        return False


def _marks(repo: Repository) -> Iterator[FsckError]:
    """What is wrong with them. By a wrong line on what was dropped a commit may not load: all in it are named."""
    for name, file in (
        ("dropped", repo.drops),
        ("pins", repo.pins),
        ("tiers", repo.moves),
        ("verified", repo.verifications),
        ("accessed", repo.accesses),
        ("lost", repo.lost),
    ):
        named: tuple[str, ...] = ()
        try:
            problem = file.problem()
            named = tuple(repo.drops.read()) if name == "dropped" else ()
        except CorruptError as error:
            problem = str(error)
        if problem:
            yield FsckError(problem, commits=named)
        elif config.CHECKS in repo.config.features and name in marks.empty(repo.path):
            yield FsckError(f"{repo.path / name} is empty, which castore never leaves it: restore it, or delete it")


def _mirrors(repo: Repository) -> Iterator[str]:
    if problem := _problem(repo.mirrors.read):
        yield problem


def _signatures(repo: Repository) -> Iterator[str]:
    """Whether they have the form of signatures; whether they are good is for `castore verify`."""
    signatures = repo.signatures
    for read, name in [
        *((signatures.of_commit, one) for one in signatures.commits()),
        *((signatures.of_tag, one) for one in signatures.tags()),
    ]:
        try:
            if not read(name):
                yield f"the signatures of {name} are gone: their file is empty; sign again, or delete it"
        except CorruptError as error:
            yield str(error)


def _reflogs(repo: Repository) -> Iterator[str]:
    for ref in repo.refs.reflog.refs():
        try:
            lines = repo.refs.reflog.damaged_lines(ref)
        except CorruptError as error:
            yield str(error)
            continue
        if lines:
            yield f"the reflog of {ref} has damaged lines: {', '.join(map(str, lines[:10]))}; delete them"


def _refs(repo: Repository) -> Iterator[str]:
    """Whether the files end as castore ends them. What they say is looked at where history is walked."""
    refs = repo.refs
    names = [f"refs/heads/{one}" for one in refs.branch_names()] + [f"refs/tags/{one}" for one in refs.tag_names()]
    for name in ("HEAD", *names):
        try:
            data = ref_files.read_small(repo.path, name, 1024)
        except CorruptError:
            continue  # told by whoever reads the ref
        if data is not None and not data.endswith(b"\n"):
            yield f"{repo.path / name} does not end with a newline: it was cut short, or written by hand; add one"


def _audit(repo: Repository) -> Iterator[str]:
    """The log's chain, and whether refs, HEAD and castore.toml are as it says."""
    with contextlib.nullcontext() if repo.chunks.access.read_only else repo.lock.held():  # all of one moment
        size, refs, branch = repo.audit.size(), repo.refs.by_full_name(), _head(repo)
    try:
        entries = [line.entry for line in repo.audit.lines(size) if line.entry is not None]
        report = check(repo.audit, size, refs, None)
    except CorruptError as error:
        yield str(error)
        return
    if not entries and not report.broken:
        return  # a store of before there was one, or whose owner wants none
    if not repo.config.audited:
        yield from [f"audit log: {report.broken}"] if report.broken else []
        return
    yield from (f"audit log: {error}" for error in report.errors)
    moves = [one.event.detail for one in entries if one.event.subject == "HEAD" and one.event.detail.startswith("to ")]
    known = [one.removeprefix("to ") for one in moves]
    if entries and entries[0].event.action == INIT:
        known = [_FIRST_BRANCH, *known]
        inits = [one.event.detail for one in entries if one.event.action == INIT]
        made = inits[-1].split()  # those before were of stores that a crash kept from being one
        if not report.broken and made[:2] != [repo.config.uuid, repo.config.hash]:
            yield f"{repo.path / config.NAME} has another uuid or hash than {' and '.join(made[:2])}, of the audit log"
    if branch is not None and known and branch not in known[-2:]:  # the last one may not have been carried out
        yield f"HEAD follows branch {branch!r}, and by the audit log {known[-1]!r}"


def _head(repo: Repository) -> str | None:
    """The branch that HEAD follows; None also for a damaged one, which is told where history is walked."""
    try:
        return repo.refs.head().branch
    except CorruptError:
        return None
