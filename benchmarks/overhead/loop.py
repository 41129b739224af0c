"""One run of a job with one method, measured. To be called in a process of its own."""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.bench import stored_bytes
from benchmarks.overhead.job import Job, Size
from benchmarks.overhead.methods import METHODS
from benchmarks.states import same_state, tensor_bytes, tensors_of

# Until it has seen the second commit, castore does not have all the memory that it stages commits in.
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run took, from the end of its warm-up on, until all was durable: in seconds and bytes.

    warm_up_s: the calls that took the checkpoints of the warm-up. stalls_s: those after it, and what the method held
    up the next update for. waits_s: for the checkpoint before to be durable, before each; of an alternating run: after
    the steps that follow each. steps_s: each step, without either. wall_s: all of it, of an alternating run the
    stretches with checkpoints. stretches: of an alternating run, for each checkpoint the stretch without one and the
    stretch with it. plain_steps_s: each step of the former. stored_bytes: that it added on disk. memcpy_s: warm copies
    of the whole state, between steps. same: whether what was saved last came back bit for bit.
    """

    method: str
    state_bytes: int
    commits: int
    warm_up_s: tuple[float, ...]
    stalls_s: tuple[float, ...]
    waits_s: tuple[float, ...]
    steps_s: tuple[float, ...]
    wall_s: float
    stretches: tuple[tuple[float, float], ...]
    plain_steps_s: tuple[float, ...]
    stored_bytes: int
    memcpy_s: tuple[float, ...]
    same: bool | None


def measure_run(name: str, folder: Path, size: Size, bare: bool = False) -> Measured:
    """Train with the method `name`, which may write into `folder`. bare: neither yardsticks nor the check at the end,
    which take memory.

    Raises RuntimeError if what was saved last does not come back as it was.
    """
    loop = _Loop(name, folder, size)
    for _ in range(size.before):
        loop.job.step()
    for number in range(WARM_UP):
        loop.step()
        loop.checkpoint(number * loop.period)
    warm_up = loop.settled()
    copies = [] if bare else _time_copies(loop.job, size.yardsticks)
    before = stored_bytes(folder)
    wall, stretches = loop.alternate() if size.alternating else (loop.run(), ())
    stalls = loop.settled()
    stored = stored_bytes(folder) - before
    copies += [] if bare else _time_copies(loop.job, size.yardsticks)
    same = None if bare else loop.check()
    loop.method.close()
    if same is False:
        raise RuntimeError(f"{name}: what was saved last is not what comes back")
    times = (stalls, tuple(loop.waits), tuple(loop.steps), wall, stretches, tuple(loop.plain_steps))
    return Measured(name, tensor_bytes(loop.job.state()), size.commits, warm_up, *times, stored, tuple(copies), same)


class _Loop:
    """Steps, and checkpoints between them, each timed."""

    def __init__(self, name: str, folder: Path, size: Size) -> None:
        self.size = size
        self.job = Job(size.shape, size.batch, size.device)
        self.period = size.every * (2 if size.alternating else 1)
        self.method = METHODS[name](folder, self.job, self.period)
        self.stalls: list[float] = []
        self.waits: list[float] = []
        self.steps: list[float] = []
        self.plain_steps: list[float] = []
        self._held = 0.0
        self._taken = False

    def step(self) -> float:
        """A step of the job; returns its seconds, without what the method held it up for."""
        self._held = 0.0
        started = time.perf_counter()
        self.job.step(self._before_update)
        self.job.settle()
        return time.perf_counter() - started - self._held

    def checkpoint(self, step: int) -> float:
        """Take a checkpoint; returns the seconds waited for the one before, which are not its own."""
        started = time.perf_counter()
        self.method.wait()
        waited = time.perf_counter()
        self.method.take(step)
        self.job.settle()
        self.stalls.append(time.perf_counter() - waited)
        self._taken = True
        return waited - started

    def settled(self) -> tuple[float, ...]:
        """The stalls so far, which are forgotten, once all that was taken is durable."""
        self.method.wait()
        self.method.before_update()
        self._taken = False
        stalls, self.stalls = tuple(self.stalls), []
        return stalls

    def run(self) -> float:
        """All that is measured; returns the seconds of it."""
        every, first = self.size.every, (WARM_UP - 1) * self.size.every + 1
        # As many steps follow the last checkpoint as any other one: there too it can be written beside them.
        last = first + (self.size.commits + 1) * every - 2
        os.sync()
        started = time.perf_counter()
        for step in range(first, last + 1):
            self.steps.append(self.step())
            if step % every == 0:
                self.waits.append(self.checkpoint(step))
            else:
                self.method.pass_by(step)
        self.method.wait()
        return time.perf_counter() - started

    def alternate(self) -> tuple[float, tuple[tuple[float, float], ...]]:
        """The same for an alternating run: a stretch of steps, then a checkpoint and as many, until it is durable.
        Returns the seconds of the latter, and of both for each checkpoint."""
        stretches = []
        begin = (WARM_UP - 1) * self.period
        for taken in range(begin + self.period, begin + self.size.commits * self.period + 1, self.period):
            os.sync()
            started = time.perf_counter()
            self._pass(range(taken - self.size.every + 1, taken), self.plain_steps)
            self.plain_steps.append(self.step())
            without = time.perf_counter() - started
            started = time.perf_counter()
            self.checkpoint(taken)
            self._pass(range(taken + 1, taken + self.size.every + 1), self.steps)
            trained = time.perf_counter()
            self.method.wait()
            ended = time.perf_counter()
            self.waits.append(ended - trained)
            stretches.append((without, ended - started))
        return sum(seconds for _, seconds in stretches), tuple(stretches)

    def _pass(self, numbers: range, seconds: list[float]) -> None:
        for number in numbers:
            seconds.append(self.step())
            self.method.pass_by(number)

    def check(self) -> bool | None:
        """Take one more checkpoint, let the state change at once, and compare what is loaded with what it was."""
        self.step()
        expected = copy.deepcopy(self.job.state())
        self.checkpoint((WARM_UP + self.size.commits) * self.period)
        self.step()
        self.method.wait()
        found = self.method.last()
        if same_state(expected, self.job.state()):
            raise RuntimeError("a step that changes nothing can check nothing")
        return None if found is None else same_state(expected, found)

    def _before_update(self) -> None:
        started = time.perf_counter()
        self.method.before_update()
        self._held = time.perf_counter() - started
        if self._taken:
            self.stalls[-1] += self._held
            self._taken = False


def _time_copies(job: Job, count: int) -> list[float]:
    """Seconds of copies of the whole state into memory that was touched before, tensor by tensor, between steps.

    From a device: into pinned memory, all begun before the first is waited for.
    """
    pinned = job.device != "cpu"
    into = [torch.empty_like(tensor, device="cpu", pin_memory=pinned) for _, tensor in tensors_of(job.state())]
    for target in into:
        target.zero_()
    seconds = []
    for _ in range(count):
        job.step()
        job.settle()
        tensors = [tensor for _, tensor in tensors_of(job.state())]
        started = time.perf_counter()
        for target, source in zip(into, tensors, strict=True):
            target.copy_(source, non_blocking=pinned)
        job.settle()
        seconds.append(time.perf_counter() - started)
    return seconds
