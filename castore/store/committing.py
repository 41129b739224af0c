"""Store's methods that add states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore.errors import UsageError
from castore.operations.details import details
from castore.operations.effort import FULL, worthwhile
from castore.store.door import Door

if TYPE_CHECKING:
    from castore.objects.commit import Commit
    from castore.operations.commit import Committed
    from castore.operations.import_checkpoints import ImportedCheckpoint
    from castore.state.provenance import Recorded, Run


class Committing(Door):
    """States in."""

    last_new_bytes: int

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
        owner: str | None = None,
        sign: bool | str | Path = False,
        run: Run | None = None,
        effort: str = FULL,
    ) -> Commit:
        """Commit a state: any nesting of dicts, lists and tuples with tensors, arrays and plain values as leaves.

        The state is read while this runs (nothing may change it), and is durable when it returns. A branch that does
        not exist begins a new history; `store.branch(name, rev)` first continues from `rev`. step: from 0 on.
        tier: says what of the state goes in, and how long that is kept. author: who made it, by default this user.
        owner: who answers for it, by default whom castore.toml names. sign: with the SSH key of castore.toml (True) or
        this one. run: what produces it (see `castore.Run`); default: what can be told of this process. effort: "full"
        makes it as small as it gets at once; "fast" hashes and writes, and leaves what takes time to `repack`.

        Raises StateError (nothing was written), RefConflictError (another process committed first), RefNameError,
        StorageError (the disk refused; the history is as it was), UsageError (no such tier or effort, or a tier
        that lets in nothing), SignatureError (it is made, but not signed).
        """
        from castore.operations.commit import commit_state

        limit = worthwhile(effort)
        told = details(message, step, metrics, meta, tier, author, time, owner, _recorded(run))
        self._check_key(sign)
        with self._committing() as facts:
            done = commit_state(self._repo, state, branch, told, limit)
            facts["bytes"] = done.new_bytes
        return self._finished(done, sign)

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
        owner: str | None = None,
        sign: bool | str | Path = False,
        run: Run | None = None,
        effort: str = FULL,
    ) -> Commit:
        """Commit files and directories, byte for byte; tensors inside .pt and .safetensors are stored as tensors.

        branch: HEAD's by default. run, effort: as for `commit`.
        Raises as that does, and StateError for a file that cannot be read or kept.
        """
        from castore.operations.commit_files import commit_files

        limit = worthwhile(effort)
        told = details(message, step, metrics, meta, tier, author, time, owner, _recorded(run))
        self._check_key(sign)
        found = [Path(path) for path in paths]
        with self._committing() as facts:
            done = commit_files(self._repo, found, branch or self._head_branch(), told, limit)
            facts["bytes"] = done.new_bytes
        return self._finished(done, sign)

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

        def tell_and_record(report: ImportedCheckpoint) -> None:
            if report.commit and report.outcome == "imported":
                self._repo.events.record("commit", bytes=report.new_bytes)
            tell(report)

        reports = import_checkpoints(self._repo, Path(directory), target, pattern, dry_run, told, tell_and_record)
        self.last_new_bytes = sum(report.new_bytes for report in reports)
        return reports

    def _check_key(self, sign: bool | str | Path) -> None:
        """Before anything is committed that could not be signed then."""
        if sign is not False:
            from castore.operations.signatures import signing_key

            signing_key(self._repo, sign)

    def _finished(self, done: Committed, sign: bool | str | Path) -> Commit:
        self.last_new_bytes = done.new_bytes
        if sign is not False:
            from castore.operations.signatures import sign_made

            sign_made(self._repo, done.commit.id, sign)
        return done.commit

    def _head_branch(self) -> str:
        branch = self._repo.refs.head().branch
        if branch is None:
            raise UsageError("HEAD is at no branch; name one with --branch, or `castore switch` to one")
        return branch


def _recorded(run: Run | None) -> Recorded | None:
    return None if run is None else run.record()
