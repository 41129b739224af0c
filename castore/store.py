"""Store: the one door to everything below."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from castore import repo as repositories
from castore.errors import StoreExistsError, UsageError
from castore.history.reflog import Change
from castore.history.walk import ancestors
from castore.operations import branches
from castore.operations.details import details, now, whoami
from castore.progress import Progress

if TYPE_CHECKING:
    import torch

    from castore.history.drops import Drop
    from castore.history.pins import Pin
    from castore.history.reflog import ReflogEntry
    from castore.history.refs import Head
    from castore.maintenance.reports import Explanation, FsckReport, GcReport, PruneReport
    from castore.objects.commit import Commit
    from castore.operations.checkout import CheckoutReport
    from castore.operations.import_checkpoints import ImportedCheckpoint
    from castore.operations.reports import Diff, StoreStats, TreeEntry
    from castore.retention.rules import Rules


def open(path: str | Path, create: bool = False, progress: Progress | None = None) -> Store:
    """Open the store at `path`: a `.castore` directory, or the directory that holds one. `create`: make it if missing.

    Raises StoreNotFoundError, UnsupportedStoreError (a newer format, a network file system), CorruptError.
    """
    path = Path(path)
    if create:
        target = path if path.name == repositories.NAME else path / repositories.NAME
        if not any((place / "castore.toml").is_file() for place in (path, target)):
            with contextlib.suppress(StoreExistsError):  # another process was faster: what was wanted is there
                repositories.create(target)
    return Store(repositories.locate(path), progress)


def init(path: str | Path, hash: str = "xxh3-128") -> Store:
    """Make a new store: `path` itself if it is named `.castore`, else `path/.castore`. `hash`: "xxh3-128" or "blake3".

    Raises StoreExistsError, UnsupportedStoreError, StorageError.
    """
    path = Path(path)
    target = path if path.name == repositories.NAME else path / repositories.NAME
    repositories.create(target, hash)
    return Store(target)


def discover(start: Path) -> Path:
    """The nearest `.castore` in `start` or above it. Raises StoreNotFoundError."""
    return repositories.discover(start)


class Store:
    """A store, open. Use it as a context manager, or call `close`. Safe to use from several threads.

    path: the `.castore` directory. last_new_bytes: what the newest commit made through this object added on disk.
    """

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        self._repo = repositories.Repository(path.absolute(), progress)  # it stays where it is if we go elsewhere
        self.path = self._repo.path
        self.last_new_bytes = 0

    @property
    def repository(self) -> repositories.Repository:
        """The store's rooms, wired together: for castore's own doors beside this one."""
        return self._repo

    @property
    def progress(self) -> Progress:
        """Where long phases report to."""
        return self._repo.progress

    # Committing

    def commit(
        self,
        state: Any,
        branch: str = "main",
        message: str = "",
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        meta: Mapping[str, str] | None = None,
        tier: str | None = None,
        *,
        author: str | None = None,
        time: datetime | None = None,
    ) -> Commit:
        """Commit a state: any nesting of dicts, lists and tuples with tensors, arrays and plain values as leaves.

        The state is read while this runs (nothing may change it), and is durable when it returns. A branch that does
        not exist begins a new history; `store.branch(name, rev)` first continues from `rev`. step: from 0 on.
        Raises StateError (nothing was written), RefConflictError (another process committed first), RefNameError,
        StorageError (the disk refused; the history is as it was).
        """
        from castore.operations.commit import commit_state

        told = details(message, step, metrics, meta, tier, author, time)
        done = commit_state(self._repo, state, branch, told)
        self.last_new_bytes = done.new_bytes
        return done.commit

    def commit_files(
        self,
        paths: Sequence[str | Path],
        branch: str | None = None,
        message: str = "",
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        meta: Mapping[str, str] | None = None,
        tier: str | None = None,
        *,
        author: str | None = None,
        time: datetime | None = None,
    ) -> Commit:
        """Commit files and directories, byte for byte; tensors inside .pt and .safetensors are stored as tensors.

        branch: HEAD's by default. Raises as `commit` does, and StateError for a file that cannot be read or kept.
        """
        from castore.operations.commit_files import commit_files

        told = details(message, step, metrics, meta, tier, author, time)
        done = commit_files(self._repo, [Path(path) for path in paths], branch or self._head_branch(), told)
        self.last_new_bytes = done.new_bytes
        return done.commit

    def import_checkpoints(
        self,
        directory: str | Path,
        branch: str | None = None,
        pattern: str | None = None,
        dry_run: bool = False,
        *,
        tell: Callable[[ImportedCheckpoint], None] = lambda _report: None,
    ) -> list[ImportedCheckpoint]:
        """Commit the checkpoints that a loop left in `directory`, oldest first, each with its step and its file's time.

        branch: HEAD's by default. Steps that an import has committed there before are passed over, so an import that
        was interrupted can be run again. pattern: a glob on names, in which {step} or {epoch} may stand for the number.
        dry_run: commit nothing. tell: gets each report when it is known. Returns a report of each entry of the
        directory, also of what was left out. Nothing in a checkpoint is executed.

        Raises UsageError, before anything is committed, when there is no checkpoint or their order is ambiguous; else
        as `commit_files`, with the name of the checkpoint: those before it stay committed.
        """
        from castore.operations.import_checkpoints import import_checkpoints

        told = details("", None, None, None, None, None, None)
        target = branch or self._head_branch()
        reports = import_checkpoints(self._repo, Path(directory), target, pattern, dry_run, told, tell)
        self.last_new_bytes = sum(report.new_bytes for report in reports)
        return reports

    def _head_branch(self) -> str:
        branch = self.head().branch
        if branch is None:
            raise UsageError("HEAD is at no branch; name one with --branch, or `castore switch` to one")
        return branch

    # Loading

    def load(
        self,
        rev: str = "HEAD",
        only: str | Sequence[str] | None = None,
        device: torch.device | str | None = None,
    ) -> Any:
        """The state of a commit, each chunk verified against its id; tensors on the CPU, or moved to `device`.

        only: dotted paths, whole ("model") or with wildcards ("model.*.bias"); what else is there is not read.
        A commit of files gives what each file holds by its name, or for one file just that (`weights_only` semantics;
        other files as bytes). Raises RevisionError, StateError, DroppedError (by which rule, and what to load instead),
        CorruptError (names the tensor), MissingError.
        """
        from castore.operations.load import load

        return load(self._repo, rev, only, device)

    def load_into(self, rev: str, state: Any) -> None:
        """Load a commit into an existing state, in place: tensors are overwritten, modules and optimizers restored.

        Raises StateError, before anything is written, that lists what is missing, unexpected or of another shape;
        CorruptError, after which tensors may hold part of the commit.
        """
        from castore.operations.load import load_into

        load_into(self._repo, rev, state)

    def checkout(
        self,
        rev: str,
        out: str | Path,
        only: str | Sequence[str] | None = None,
        format: str | None = None,
        force: bool = False,
    ) -> CheckoutReport:
        """Write a commit to files. format: "pt" or "safetensors", else committed files come back byte for byte.

        Raises TargetExistsError unless `force`, UnsafePathError, StorageError, StateError, RevisionError, CorruptError.
        """
        from castore.operations.checkout import checkout

        return checkout(self._repo, rev, Path(out), only, format, force)

    # History

    def resolve(self, rev: str) -> str:
        """The full id of the commit that a revision names. Raises RevisionError, AmbiguousRevisionError."""
        return self._repo.resolve(rev)

    def show(self, rev: str = "HEAD") -> Commit:
        """The commit that a revision names. Raises RevisionError, MissingError."""
        return self._repo.commit(self.resolve(rev))

    def log(self, rev: str | Sequence[str] = "HEAD", limit: int | None = None) -> Iterator[Commit]:
        """The commits of one or several revisions and all before them, each once, newest first and lazily.

        Raises RevisionError.
        """
        starts = [self.resolve(one) for one in ([rev] if isinstance(rev, str) else rev)]
        return _limited(ancestors(starts, self._repo), limit)

    def entries(self, rev: str = "HEAD", only: str | Sequence[str] | None = None) -> Iterator[TreeEntry]:
        """What is in a commit, path by path, without its data. Raises RevisionError, StateError."""
        from castore.operations.entries import entries

        return entries(self._repo, rev, only)

    def diff(self, a: str, b: str) -> Diff:
        """What changed from commit `a` to commit `b`, per tensor. Raises RevisionError, CorruptError."""
        from castore.operations.diff import diff

        return diff(self._repo, a, b)

    def stats(self) -> StoreStats:
        """What the store holds: raw, stored, deduplicated, delta-coded."""
        from castore.operations.stats import stats

        return stats(self._repo)

    # Refs

    def head(self) -> Head:
        """Where HEAD is: its branch (None: detached) and its commit (None: none yet)."""
        return self._repo.refs.head()

    def switch(self, branch: str) -> None:
        """Let HEAD follow another branch. Raises RevisionError when there is no such branch."""
        branches.switch(self._repo, branch, self._change(f"switch: to {branch}"))

    def branches(self) -> dict[str, str]:
        """Every branch and the id of its commit."""
        return self._repo.refs.branches()

    def branch(self, name: str, rev: str = "HEAD", force: bool = False) -> str:
        """Make a branch at a revision, or move it there with `force`; returns the commit's id.

        Raises RefNameError, RefExistsError, RevisionError.
        """
        return branches.branch(self._repo, name, rev, force, self._change(f"branch: created from {rev}"))

    def delete_branch(self, name: str, force: bool = False) -> str:
        """Delete a branch and its reflog; returns the id that it was at. Raises RevisionError when there is none.

        Raises UsageError when HEAD follows it, or when it has commits that no other ref leads to and not `force`.
        """
        return branches.delete_branch(self._repo, name, force)

    def tags(self) -> dict[str, str]:
        """Every tag and the id of its commit."""
        return self._repo.refs.tags()

    def tag(self, name: str, rev: str = "HEAD", force: bool = False) -> str:
        """Tag a commit, or move a tag with `force`; returns its id.

        Raises RefNameError, RefExistsError, RevisionError.
        """
        return branches.tag(self._repo, name, rev, force)

    def delete_tag(self, name: str) -> str:
        """Delete a tag; returns the id that it named. Raises RevisionError when there is none."""
        return branches.delete_tag(self._repo, name)

    def reflog(self, ref: str = "HEAD") -> list[ReflogEntry]:
        """What a branch or HEAD was before, newest first."""
        return branches.reflog(self._repo, ref)

    def expire_reflog(self, ref: str | None, before: datetime) -> int:
        """Drop reflog entries older than `before`, of one ref or (None) of all; returns how many went."""
        return branches.expire_reflog(self._repo, ref, before)

    def _change(self, message: str) -> Change:
        return Change(whoami(), now(), message)

    # Maintenance

    def gc(self, dry_run: bool = False) -> GcReport:
        """Delete what no branch, tag, HEAD, pin or unexpired reflog entry leads to, and states that were dropped.

        Safe beside commits and readers.

        Raises CorruptError, before anything is deleted, when history itself can't be walked.
        """
        from castore.maintenance.gc import gc

        days = self._repo.config.reflog_expire_days
        return gc(self._repo, expire_before=now() - timedelta(days=days), dry_run=dry_run)

    def fsck(self, read_data: bool = True, repair: bool = False) -> FsckReport:
        """Check every checksum, link and base; `read_data`: decode every chunk too. Finds, and raises nothing for it.

        repair: rebuild the index and take damaged records out of service, without touching good history.
        """
        from castore.maintenance.fsck import fsck

        return fsck(self._repo, read_data=read_data, repair=repair)

    # Retention

    def prune(
        self, rules: Rules | Mapping[str, Any] | None = None, dry_run: bool = False, branch: str | None = None
    ) -> PruneReport:
        """Drop the states that no rule keeps. Commits stay, with all that is said of them; gc frees the space.

        rules: such as `{"keep_last": 5, "keep_best": "loss=min:3"}`; default: the store's table `[retention]`.
        branch: only what this branch leads to and no other. Heads, tags, pins, what a run began from, and the newest
        whole state of each branch are never dropped. Raises UsageError, RevisionError, StorageError.
        """
        from castore.maintenance.prune import configured, prune
        from castore.retention.rules import as_rules

        meant = configured(self._repo) if rules is None else as_rules(rules)
        return prune(self._repo, meant, branch, dry_run, now)

    def why(self, rev: str, rules: Rules | Mapping[str, Any] | None = None) -> Explanation:
        """Which rules keep the state of a commit, or drop it, and the bytes that it alone holds.

        Raises RevisionError, UsageError.
        """
        from castore.maintenance.prune import configured, why
        from castore.retention.rules import as_rules

        return why(self._repo, rev, configured(self._repo) if rules is None else as_rules(rules), now)

    def retention_rules(self) -> Rules:
        """The rules of the store's table `[retention]`. Raises UsageError that names what is wrong there."""
        from castore.maintenance.prune import configured

        return configured(self._repo)

    def drops(self) -> dict[str, Drop]:
        """What retention dropped, by the id of the commit."""
        return self._repo.drops.read()

    def pins(self) -> dict[str, Pin]:
        """The pins, by the id of the commit."""
        return self._repo.pins.read()

    def pin(self, rev: str, reason: str = "") -> Pin:
        """Let neither retention nor gc touch a commit. Raises RevisionError, DroppedError."""
        from castore.operations.pins import pin

        return pin(self._repo, rev, reason, now())

    def unpin(self, rev: str) -> Pin:
        """Let go of a pinned commit; returns what its pin said. Raises RevisionError when it is not pinned."""
        from castore.operations.pins import unpin

        return unpin(self._repo, rev)

    # Closing

    def close(self) -> None:
        """Let go of files and threads. The store can't be used afterwards."""
        self._repo.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _limited(commits: Iterator[Commit], limit: int | None) -> Iterator[Commit]:
    for number, commit in enumerate(commits):
        if limit is not None and number >= limit:
            return
        yield commit
