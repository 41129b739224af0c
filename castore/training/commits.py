"""Commits that the loop does not wait for: a copy is taken at once, and the commit is made of that, beside the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from castore.errors import CastoreError, UsageError
from castore.history.names import check_name
from castore.operations.details import details
from castore.operations.tier_content import content
from castore.quiet import no_collection
from castore.training.effort import AUTO, Effort
from castore.training.job import Done, Job
from castore.training.worker import ProcessWorker, ThreadWorker, Worker

if TYPE_CHECKING:
    import torch

    from castore.objects.commit import Commit
    from castore.objects.nodes import Node
    from castore.operations.details import Details
    from castore.retention.tiers import Tier
    from castore.state.provenance import Recorded
    from castore.store import Store
    from castore.training.staging import Copied, Staging


@dataclass(frozen=True, slots=True)
class Finished:
    """A commit, made. raw_bytes: of its tensors. new_bytes: that it took on disk. copied_bytes: by the loop, meanwhile.

    stall_seconds: how long the loop stood still for it, of these waited_seconds for an earlier commit to be done.
    seconds: how long it then took beside the loop. effort: "full" or "fast".
    """

    commit: Commit
    raw_bytes: int
    new_bytes: int
    copied_bytes: int
    stall_seconds: float
    waited_seconds: float
    seconds: float
    effort: str


@dataclass(frozen=True, slots=True)
class Begun:
    """A commit that was begun: as in `Finished`, what is known of it by then."""

    step: int | None
    raw_bytes: int
    copied_bytes: int
    stall_seconds: float
    waited_seconds: float
    effort: str


class Commits:
    """Commits states to a branch, one at a time, beside the loop.

    What failed is raised by the next call of `commit`, `poll`, `wait` or `close`, once. Not safe from several threads.
    """

    def __init__(
        self,
        store: Store,
        branch: str = "main",
        *,
        worker: str = "process",
        delta_base: str = "memory",
        effort: str = AUTO,
        on_finished: Callable[[Finished], None] = lambda _finished: None,
    ) -> None:
        """worker: "process" or "thread", who makes the commits. delta_base: "memory" keeps what deltas are taken
        against (up to twice the state's size in all), "disk" decodes it (once its size). effort: see `Effort`.

        Raises UsageError, RefNameError.
        """
        check_name(branch)
        if worker not in ("process", "thread"):
            raise UsageError(f"worker is 'process' or 'thread', not {worker!r}")
        if delta_base not in ("memory", "disk"):
            raise UsageError(f"delta_base is 'memory' or 'disk', not {delta_base!r}")
        self.branch = branch
        self._store = store
        self._kind = worker
        self._effort = Effort(effort)
        self._keep_anchors = delta_base == "memory"
        self._on_finished = on_finished
        self._staging: Staging | None = None
        self._worker: Worker | None = None
        self._begun: Begun | None = None

    @property
    def begun(self) -> Begun | None:
        """The commit in flight."""
        return self._begun

    @property
    def in_flight(self) -> bool:
        """Whether a commit was begun whose end nobody has heard of yet."""
        return self._begun is not None

    def expect(self, nbytes: int, device: torch.device | None = None) -> None:
        """Begin to make memory ready for a state whose copy is laid out in so many bytes: the first one would wait for
        the system to hand its pages out, and, where a device is to copy there, to lock them. Nothing is done where a
        copy was taken. Raises StorageError."""
        if self._staging is None:
            self._staged().expect(nbytes, device)

    def commit(
        self,
        state: Any,
        message: str = "",
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        meta: Mapping[str, str] | None = None,
        tier: str | None = None,
        tiers: Sequence[Tier] = (),
        recorded: Recorded | None = None,
    ) -> Begun:
        """Copy a state and begin to commit it; waits first for the commit before. The state may change at once.

        tiers: only what one of these lets in is copied, and committed; none: everything. recorded: what a run says of
        how it is made.

        Raises StateError (a leaf without a safe encoding; nothing was begun), StorageError (no memory for the copy),
        and what failed of the commit before.
        """
        started = time.perf_counter()
        effort = self._effort.next()
        self.wait()
        waited = time.perf_counter() - started
        told = details(message, step, metrics, meta, tier, recorded=recorded)
        with no_collection():  # thousands of nodes, none of which is garbage: looking for some held the loop up
            root, told, copied = self._copied(state, tiers, told)
            where = (copied.staged, copied.known, copied.segments)
            job = Job(root, *where, self.branch, told, effort)
        try:
            self._maker().submit(job, self._staged().segments, copied.pending)
            copied.pending.wait()
        except CastoreError:
            self._dismiss()
            raise
        raw = sum(staged.nbytes for staged in copied.staged)
        stall = time.perf_counter() - started
        self._begun = Begun(step, raw, copied.copied_bytes, stall, waited, effort)
        return self._begun

    def _copied(self, state: Any, tiers: Sequence[Tier], told: Details) -> tuple[Node, Details, Copied]:
        """A state's node, what is told of it, and its copy, which is only begun.

        What the copy was taken of is let go of here, while nobody else wants the interpreter: of 600 tensors each one
        hands it over, and a thread that makes the commit would keep it.
        """
        from castore.state.live import Flat, flatten

        staging = self._staged()
        flat = flatten(state, staging.beginning(all_of_it=not tiers))
        if tiers:
            chosen = content(flat.root, tiers)
            flat, told = Flat(chosen.root, chosen.sources(flat.sources)), chosen.noted(told)
        return flat.root, told, staging.copy(flat)

    def poll(self) -> Finished | None:
        """What the commit in flight came to, if it has ended by now. Raises its error."""
        return self._heard(wait=False)

    def wait(self) -> Finished | None:
        """Wait for the commit in flight. Raises its error."""
        return self._heard(wait=True)

    def close(self) -> None:
        """Wait, and end what makes the commits. Raises the error of the commit in flight, after all is ended."""
        try:
            self.wait()
        finally:
            self._dismiss()
            if self._staging is not None:
                self._staging.close()
                self._staging = None

    def _staged(self) -> Staging:
        if self._staging is None:
            from castore.training.staging import Staging

            self._staging = Staging(self._store.repository.config.chunk_elements, self._keep_anchors)
        return self._staging

    def _maker(self) -> Worker:
        if self._worker is None:
            repo = self._store.repository
            self._worker = ProcessWorker(repo.path) if self._kind == "process" else ThreadWorker(repo)
        return self._worker

    def _heard(self, wait: bool) -> Finished | None:
        if self._begun is None or self._worker is None:
            return None
        if wait:
            with self._effort.waiting():
                outcome = self._worker.result(wait)
        else:
            outcome = self._worker.result(wait)
        if outcome is None:
            return None
        begun, self._begun = self._begun, None
        if isinstance(outcome, Done):
            return self._finished(begun, outcome)
        if isinstance(outcome, CastoreError):
            self._dismiss()
        raise outcome

    def _dismiss(self) -> None:
        """End what makes the commits. There is a new one, should the loop go on: this one may be what failed."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _finished(self, begun: Begun, done: Done) -> Finished:
        self._staged().committed(done)
        for note in done.notes:
            self._store.progress.note(note)
        self._store.last_new_bytes = done.new_bytes
        finished = Finished(
            done.commit,
            begun.raw_bytes,
            done.new_bytes,
            begun.copied_bytes,
            begun.stall_seconds,
            begun.waited_seconds,
            done.seconds,
            begun.effort,
        )
        self._store.repository.events.record(
            "commit",
            step=begun.step,
            seconds=round(done.seconds, 4),
            stall=round(begun.stall_seconds, 6),
            bytes=done.new_bytes,
        )
        self._on_finished(finished)
        return finished
