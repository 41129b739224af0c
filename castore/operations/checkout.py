"""Checkout: committed files as they were, or a state as a file that torch or safetensors reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from castore._fs import storage_errors
from castore.errors import CorruptError, LockTimeoutError, StorageError, TargetExistsError, UsageError
from castore.history.audit_line import Event
from castore.objects import nodes
from castore.operations.elsewhere import reading
from castore.operations.fetch import check_present, stream
from castore.operations.load import load, walk_files
from castore.operations.select import choose_files, patterns
from castore.repo import Repository
from castore.state.files.reader import segment_bytes
from castore.state.files.target import OutputFile, OutputTree

FORMATS = ("pt", "safetensors")


@dataclass(frozen=True, slots=True)
class CheckoutReport:
    """files: what was written. raw_bytes: their size. dropped: paths of values that the format has no place for."""

    files: tuple[Path, ...]
    raw_bytes: int
    dropped: tuple[str, ...] = ()


def checkout(
    repo: Repository, rev: str, out: Path, only: str | Sequence[str] | None, format_: str | None, force: bool
) -> CheckoutReport:
    """Write a commit's state to `out`, every chunk verified on the way.

    Files come back byte for byte: one file at `out` (in it, when it is a directory), several below it. With a format,
    and for a state that was committed from Python, one file of that format is written.
    Raises TargetExistsError, UnsafePathError, StorageError, StateError, RevisionError, CorruptError, UsageError.
    """
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}; castore writes {' and '.join(FORMATS)}")
    _audit(repo, repo.resolve(rev), out)
    written: list[Path] = []  # and verified: what a copy of the commit need not write again
    return reading(repo, rev, lambda one, commit_id: checkout_here(one, commit_id, out, only, format_, force, written))


def checkout_here(
    repo: Repository,
    rev: str,
    out: Path,
    only: str | Sequence[str] | None,
    format_: str | None,
    force: bool,
    written: list[Path],
) -> CheckoutReport:
    """The same, of this very store, and without a word of it in the audit log.

    written: files that need not be written again; what is written is added.
    """
    root = repo.tree(repo.commit(rev))
    with storage_errors("create", out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(root, nodes.Directory):
        return _convert(repo, rev, out, only, format_ or _by_ending(out), force)
    files = dict(walk_files(root))
    if format_ is not None:
        return _convert(repo, rev, out, only, format_, force)
    chosen = choose_files(files, patterns(only))
    if any(inside is not None for inside in chosen.values()):
        return _convert(repo, rev, out, only, _by_ending(out), force)
    return _files(repo, files, list(chosen), out, force, written)


def _audit(repo: Repository, commit_id: str, out: Path) -> None:
    """A store that cannot be written is read all the same: a full disk must not keep anyone from a checkpoint."""
    if repo.chunks.access.read_only or not repo.audit.enabled:
        return
    try:
        with repo.lock.held():
            repo.audit.append(Event("checkout", commit_id, detail=f"to {out.resolve()}"))
    except (StorageError, LockTimeoutError) as error:
        repo.progress.note(f"the audit log does not have this checkout: {error}")


def _by_ending(out: Path) -> str:
    return "safetensors" if out.suffix == ".safetensors" else "pt"


def _convert(
    repo: Repository, rev: str, out: Path, only: str | Sequence[str] | None, format_: str, force: bool
) -> CheckoutReport:
    from castore.state.files.export import write_pt, write_safetensors

    if not force and out.exists():
        raise TargetExistsError(f"{out} exists; remove it, write elsewhere, or pass --force")
    state = load(repo, rev, only, None)
    repo.progress.start(f"Writing {out.name}", None, "bytes")
    dropped: list[str] = []
    if format_ == "safetensors":
        dropped = write_safetensors(state, out, force)
    else:
        write_pt(state, out, force)
    repo.progress.finish()
    return CheckoutReport((out,), out.stat().st_size, tuple(dropped))


def _files(
    repo: Repository, files: dict[str, nodes.File], names: list[str], out: Path, force: bool, written: list[Path]
) -> CheckoutReport:
    for name in names:
        check_present(files[name], (name,))  # before the first of them is written
    size = sum(files[name].size for name in names)
    repo.progress.start("Checking out", size, "bytes")
    if len(files) == 1 and not out.is_dir():
        with OutputFile.at(out, force) as target:
            _write(repo, files[names[0]], target)
        written.append(out)
    else:
        with OutputTree(out, force) as tree:
            for name in names:
                if out / name in written:
                    continue
                with tree.file(name) as target:
                    _write(repo, files[name], target)
                written.append(out / name)
    repo.progress.finish()
    return CheckoutReport(tuple(written), size)


def _write(repo: Repository, node: nodes.File, target: OutputFile) -> None:
    for _, segment in node.segments:
        for piece in stream(repo, segment):
            target.write(piece)
    if sum(segment_bytes(data) for _, data in node.segments) != node.size:
        raise CorruptError(f"{target.path.name}: its segments do not add up to its size; run `castore fsck`")
