"""Importing what a loop left with torch.save: the checkpoints of a directory become commits, oldest first."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from castore._fs import storage_errors
from castore.errors import CastoreError, UsageError
from castore.history.walk import ancestors
from castore.operations.checkpoint_order import Checkpoint, Entry, plan
from castore.operations.commit_files import commit_files
from castore.operations.details import Details
from castore.repo import Repository
from castore.state.files.source import kind_of

SOURCE = "imported-from"  # the note by which an import knows its commits again: the name in the directory


@dataclass(frozen=True, slots=True)
class ImportedCheckpoint:
    """What became of one entry of the directory.

    outcome: "imported"; "present": an earlier import has committed its step; "planned": a dry run would import it;
    "left-out". reason: of what is present or left out. step: None for what is left out; an epoch or a number where
    names say no step. commit: its id, "" for none. time: when the checkpoint was written. new_bytes: what the commit
    added on disk.
    """

    name: str
    outcome: str
    reason: str = ""
    step: int | None = None
    epoch: int | None = None
    time: datetime | None = None
    commit: str = ""
    raw_bytes: int = 0
    new_bytes: int = 0


def import_checkpoints(
    repo: Repository,
    directory: Path,
    branch: str,
    pattern: str | None,
    dry_run: bool,
    details: Details,
    tell: Callable[[ImportedCheckpoint], None],
) -> list[ImportedCheckpoint]:
    """Commit each checkpoint in `directory` to `branch`, but those whose step an import has committed there before.

    details: of every commit, but for message, step, time and notes. tell: gets each report when it is known.
    Raises UsageError before anything is committed when there are none or their order is ambiguous; what a commit
    raises, with the name of the checkpoint: those before it stay committed.
    """
    found = plan(_entries(directory), pattern, lambda one, other: _identical(directory / one, directory / other))
    if not found.checkpoints:
        raise _none_found(directory, found.left_out)
    present = _present(repo, branch)
    reports: list[ImportedCheckpoint] = []

    def report(one: ImportedCheckpoint) -> None:
        reports.append(one)
        tell(one)

    for name, reason in found.left_out:
        report(ImportedCheckpoint(name, "left-out", reason))
    for checkpoint in found.checkpoints:
        seen = ImportedCheckpoint(checkpoint.name, "planned", step=checkpoint.number, epoch=checkpoint.epoch)
        if checkpoint.number in present:
            commit, source = present[checkpoint.number]
            reason = f"{found.by} {checkpoint.number} was imported from {source} before"
            report(replace(seen, outcome="present", reason=reason, commit=commit))
            continue
        seen = replace(seen, time=_written(directory / checkpoint.name))
        report(seen if dry_run else _import(repo, directory, branch, checkpoint, details, seen))
    return reports


def _import(
    repo: Repository, directory: Path, branch: str, checkpoint: Checkpoint, details: Details, seen: ImportedCheckpoint
) -> ImportedCheckpoint:
    notes = {**details.meta, SOURCE: checkpoint.name}
    if checkpoint.epoch is not None:
        notes["epoch"] = str(checkpoint.epoch)
    assert seen.time is not None
    its_own = replace(details, message=checkpoint.name, step=checkpoint.number, time=seen.time, meta=notes)
    try:
        done = commit_files(repo, [directory / checkpoint.name], branch, its_own)
    except CastoreError as error:
        raise type(error)(
            f"{checkpoint.name} could not be imported: {error}; what comes before it is committed, and running the "
            "import again continues here"
        ) from error
    return replace(
        seen,
        outcome="imported",
        commit=done.commit.id,
        raw_bytes=done.commit.stats.total.raw_bytes,
        new_bytes=done.new_bytes,
    )


def _present(repo: Repository, branch: str) -> Mapping[int, tuple[str, str]]:
    """Steps that imports have committed to the branch: the commit, and what it was imported from."""
    tip = repo.refs.branch(branch)
    commits = ancestors([tip], repo) if tip is not None else ()
    return {c.step: (c.id, c.meta[SOURCE]) for c in commits if c.step is not None and SOURCE in c.meta}


def _entries(directory: Path) -> list[Entry]:
    if not directory.is_dir():
        raise UsageError(f"{directory} is no directory; name the one that holds the checkpoints")
    with storage_errors("list", directory):
        return [_entry(directory, name) for name in os.listdir(directory)]  # noqa: PTH208 - plain names, not paths


def _entry(directory: Path, name: str) -> Entry:
    path = directory / name
    link = ""
    if path.is_symlink():
        target = path.resolve()
        link = target.name if target.parent == directory.resolve() else ""
    if path.is_dir():
        return Entry(name, "directory", link)
    if path.is_file():
        return Entry(name, "file", link)
    if not path.exists():
        return Entry(name, "a symlink that leads nowhere")
    return Entry(name, kind_of(path.stat().st_mode), link)


def _identical(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes. Directories count as different: what is in them is not compared."""
    with storage_errors("read", one):
        return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def _written(path: Path) -> datetime:
    """When a checkpoint was written: the newest time of a file in it."""
    with storage_errors("read", path):
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else []
        return datetime.fromtimestamp(max(one.stat().st_mtime for one in files or [path])).astimezone()


def _none_found(directory: Path, left_out: tuple[tuple[str, str], ...]) -> UsageError:
    if not left_out:
        return UsageError(f"{directory} is empty; name the directory that holds the checkpoints")
    shown = ", ".join(f"{name} ({reason})" for name, reason in left_out[:3])
    more = f" and {len(left_out) - 3} more" if len(left_out) > 3 else ""
    return UsageError(
        f"no checkpoint found in {directory}, such as step_100.pt or checkpoint-500; "
        f"there are: {shown}{more}; --pattern can name them, such as 'run-{{step}}.bin'"
    )
