"""Checkpointer: the training loop's door. It commits when a policy says so, beside the loop, and goes on exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from castore.errors import CastoreError, StorageError
from castore.objects.commit import RESUMED_FROM
from castore.operations.details import check_step
from castore.state.provenance import Recorded, Run
from castore.store import Store
from castore.training import console, parts, resume, space
from castore.training.commits import Begun, Commits, Finished
from castore.training.policy import Policy, as_policy
from castore.training.preemption import TERMINATED, Preemption
from castore.training.schedule import Schedule
from castore.training.tiers import LoopTiers
from castore.training.upkeep import Upkeep, tell_of_failed_save


class Checkpointer:
    """Commits the objects of a training loop to a branch, and restores them.

        ckpt = castore.Checkpointer(store, branch="exp1", model=model, optimizer=opt, scheduler=sched, loader=loader)
        for step in range(ckpt.resume(), steps):
            ...
            ckpt.step(step, metrics={"loss": loss})
        ckpt.close()

    Use it as a context manager, or call `close`. From one thread only.
    """

    def __init__(
        self,
        store: Store,
        branch: str = "main",
        *,
        policy: Policy | str | Mapping[str, Any] | None = None,
        worker: str = "process",
        delta_base: str = "memory",
        effort: str = "auto",
        meta: Mapping[str, str] | None = None,
        tier: str | None = None,
        run: Run | None = None,
        report: bool | Callable[[str], None] | None = None,
        on_failure: Callable[[CastoreError], None] | None = None,
        maintain: bool | str = False,
        **objects: Any,
    ) -> None:
        """objects: what to commit, by name: anything with `state_dict` and `load_state_dict` (modules, optimizers,
        schedulers, a GradScaler, a StatefulDataLoader), a DataLoader with a `ResumableSampler`, random generators, and
        dicts and lists of plain values. The global random number generators are always committed too.

        policy: when to commit; default: the store's table `[policy]`, else as often as 3.5% of the time allows.
        worker: "process" or "thread" makes the commits. delta_base: "memory" keeps up to twice the state's size in
        memory, "disk" once and decodes what deltas are taken against. effort: "full" makes commits as small as can be;
        "fast" codes only what becomes half as large and leaves the rest to `castore repack`; "auto" is "fast" where the
        loop keeps all processors busy. meta: of each commit. tier: likewise, and says what goes in; "auto": the highest
        that is due, as by default where castore.toml has `[tiers]`. run: what else is known of how commits come about
        (configuration, data), see `castore.Run`; default: what can be found. report: a line per commit: True for
        standard error, False for none, a function to receive it; default: on a terminal, else in the log.
        on_failure: is told of a commit that failed, before a call of the loop's raises it. maintain: run `castore
        maintain` beside the loop: True for every ten minutes, or how often, such as "1h".

        Raises UsageError, RefNameError, StateError (a leaf without a safe encoding), StorageError (not enough free
        space for a first commit).
        """
        self._store = store
        self._branch = branch
        self._parts, self._warnings = resume.loop_parts(objects)
        self._report = console.reporter(report)
        self._on_failure = on_failure
        self._meta = dict(meta or {})
        self._run = run if run is not None else Run()
        self._hyperparameters = parts.hyperparameters(self._parts)
        self._tiers = LoopTiers(store.repository, tier)
        self._last_step: int | None = None
        self._last_commit: str | None = None
        self._resumed_from: str | None = None
        self._metrics: Mapping[str, float] = {}
        self._gradients = parts.Gradients(parts.optimizers_of(self._parts))
        settings = store.repository.config.policy
        self._schedule = Schedule(as_policy(policy if policy is not None else settings or None))
        self._expected = space.check(store, branch, self._parts)
        how = {"worker": worker, "delta_base": delta_base, "effort": effort}
        self._commits = Commits(store, branch, **how, on_finished=self._tell)
        if branch not in store.branches():
            self._expect()  # else `resume` does, when it is done: both are bound by memory
        self._upkeep = Upkeep(store, maintain, self._report)
        self._preemption = Preemption()
        self._preemption.heed(self.policy.on_preemption)

    # Settings

    @property
    def policy(self) -> Policy:
        """When commits are made. Set another one (or a mode's name, or a mapping) at any time."""
        return self._schedule.policy

    @policy.setter
    def policy(self, policy: Policy | str | Mapping[str, Any]) -> None:
        self._schedule.policy = as_policy(policy)
        self._preemption.heed(self.policy.on_preemption)

    @property
    def overhead(self) -> float:
        """The share of the run's time that commits have cost so far, 0 to 1."""
        return self._schedule.overhead

    # The loop

    def step(self, step: int, metrics: Mapping[str, float] | None = None) -> bool:
        """Call at the end of each step, counted from 0; commits if the policy says so. Returns whether it did.

        After SIGTERM it commits, waits, and raises SystemExit(143). Raises what failed of earlier commits.
        """
        check_step(step)
        self._last_step, self._metrics = step, dict(metrics or {})
        if self._preemption.asked:
            self._leave()
        self._listen(wait=False)
        self._upkeep.poll()
        due = self._tiers.step(step)
        decision = self._schedule.decide(step, self._metrics, self._commits.in_flight, due)
        if decision.deferred:
            self._report(console.deferred_line(step, decision.deferred))
        if not decision.save:
            return False
        if self._commits.in_flight and self.policy.when_busy == "skip" and step not in self.policy.steps:
            if self.policy.has_trigger:  # else nobody asked for this very step
                self._report(console.skipped_line(step, decision.reason, self._commits.begun))
            self._schedule.skipped()
            return False
        self.save()
        return True

    def save(
        self,
        step: int | None = None,
        metrics: Mapping[str, float] | None = None,
        message: str = "",
        wait: bool = False,
    ) -> Begun:
        """Commit now, whatever the policy says; waits for the commit before. step, metrics: default those of the last
        `step`. wait: return only when it is durable.

        Raises StateError (a leaf without a safe encoding; nothing was begun), StorageError, and what failed before.
        """
        self._listen(wait=True)
        step = self._last_step if step is None else step
        metrics = self._metrics if metrics is None else metrics
        state = parts.state_of(self._parts)
        if self._gradients.pending():
            state[parts.GRADIENTS] = self._gradients.state_dict()
        state[parts.RNG] = parts.Generators().state_dict()
        meta = self._meta if self._resumed_from is None else {**self._meta, RESUMED_FROM: self._resumed_from}
        try:
            tiers, recorded = self._tiers, self._recorded()
            begun = self._commits.commit(state, message, step, metrics, meta, tiers.name, tiers.content, recorded)
        except StorageError as error:  # it could not even be begun
            self._failed(error)
            raise
        self._resumed_from = None
        self._schedule.committed(begun.stall_seconds)
        self._tiers.committed()
        if wait:
            self._listen(wait=True)
        return begun

    def wait(self) -> None:
        """Wait until the commit in flight is durable. Raises its error."""
        self._listen(wait=True)

    # Going on

    def resume(self, rev: str | None = None, strict: bool = True) -> int:
        """Restore everything from the branch's newest commit, or from another; returns the step to go on with.

        That is the one after the commit's, and 0 where the branch has no commits: nothing is restored then.
        strict: raise StateError, with nothing restored, that lists what is missing, unexpected or of another shape.
        (Only an object of yours whose `load_state_dict` refuses what fits can leave the others restored.) Without it
        the rest is restored and a warning says what was left. Another warning names what could not be restored exactly.
        Raises RevisionError, CorruptError too.
        """
        self._listen(wait=True)
        if rev is None and self._branch not in self._store.branches():
            return 0
        commit = self._store.show(self._branch if rev is None else rev)
        targets = {**self._parts, parts.GRADIENTS: self._gradients, parts.RNG: parts.Generators()}
        with self._store.repository.events.timed("restore", how="resume"):
            resume.restore(self._store, commit, targets, strict, self._warnings, self._recorded().provenance)
        self._last_step = commit.step
        self._last_commit = commit.id if rev is None else None
        self._resumed_from = commit.id
        self._schedule.best = resume.best_metric(self._store, commit, self.policy)
        self._report(console.resumed_line(commit.id, self._branch, commit.step))
        self._expect()
        return 0 if commit.step is None else commit.step + 1

    # The end

    def close(self) -> None:
        """Wait for the commit in flight and end all that was begun. Raises what failed, after that. May be repeated."""
        if self._end():
            raise SystemExit(TERMINATED)

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and isinstance(error, Exception) and self.policy.on_exception:
                self._save_last(f"{type(error).__name__}: {error}"[:500])
        finally:
            asked = self._end()
        if asked and error is None:  # the loop's own error says more than the exit code would
            raise SystemExit(TERMINATED)

    def _end(self) -> bool:
        """Returns whether SIGTERM came that nobody has acted on."""
        try:
            self._listen(wait=True)
        finally:
            self._gradients.close()
            asked = self._preemption.close()
            self._upkeep.close()
            self._commits.close()
        return asked

    def _leave(self) -> None:
        """Commit because the process is about to be ended, and end it."""
        self._save_last("preempted")
        self._end()
        raise SystemExit(TERMINATED)

    def _save_last(self, message: str) -> None:
        """Save because there won't be another chance, which what failed before must not take away."""
        try:
            self._listen(wait=True)
        except CastoreError as error:
            self._report(console.failed_line(error))
        self.save(message=message)

    def _expect(self) -> None:
        """Begin to make memory ready for copies, where there is going to be training and all of the state is copied."""
        expected = self._expected
        if expected.trains and not self._tiers.content:
            self._commits.expect(expected.copied_bytes, expected.device)

    def _recorded(self) -> Recorded:
        return self._run.record({"hyperparameters": self._hyperparameters})

    def _listen(self, wait: bool) -> None:
        """Hear of the commit in flight. Raises its error, once."""
        try:
            self._commits.wait() if wait else self._commits.poll()
        except CastoreError as error:
            self._failed(error)
            raise

    def _failed(self, error: CastoreError) -> None:
        tell_of_failed_save(self._store, self._branch, self._last_step, error)
        if self._on_failure is not None:
            self._on_failure(error)

    def _tell(self, done: Finished) -> None:
        self._report(console.finished_line(done))
        parent = next(iter(done.commit.parents), None)
        if parent is not None and self._last_commit not in (None, parent):
            self._report(console.moved_line(self._branch, parent, str(self._last_commit)))
        self._last_commit = done.commit.id
