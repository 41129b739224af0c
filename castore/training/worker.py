"""Who makes the commits beside the loop: a process of its own, or a thread of the loop's.

The process loads no torch, runs at a lower priority than training, and takes nothing from the loop's interpreter. It
ignores the signals that end the loop, finishes what it was given, and goes when the loop is gone.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from pathlib import Path
from typing import Protocol

from castore import interpreter
from castore.errors import CastoreError, StorageError
from castore.operations.effort import FAST
from castore.progress import Silent
from castore.repo import Repository
from castore.training import arena, job
from castore.training.arena import Segment
from castore.training.job import Done, Job, Pending

# Measured on a training run that keeps all cores busy. Coding a GB takes seconds: at 10 that made steps 10% to 50%
# longer, at 19 none. In haste half a second of work has a second of writing to wait for: at 19 most of both was left to
# do when the loop waited, and it paid 0.8 to 0.9 s in all; at 10 it paid 0.8, at 5 and at 0 0.6.
NICE = 5
NICE_IN_FULL = 19


class WorkerDiedError(StorageError):
    """The process that makes commits is gone: killed, or out of memory."""


class Worker(Protocol):
    """Makes one commit at a time."""

    def submit(self, job: Job, segments: Mapping[int, Segment], pending: Pending) -> None:
        """Begin a commit, once the pending copies are done. `segments` then stay as they are until its result is known.

        Raises WorkerDiedError.
        """
        ...

    def result(self, wait: bool) -> Done | BaseException | None:
        """What became of the commit: made, failed, or (without `wait`) not done yet: None."""
        ...

    def close(self) -> None:
        """End it. What was begun is finished before."""
        ...


class ThreadWorker:
    """A thread of this process, and the threads of the store's pool."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        # A thread that is there gets work without a word back: one that starts would take the interpreter at once, from
        # a loop that is about to go on.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="castore-commit")
        self._made: Future[Done] | None = None

    def submit(self, job_: Job, segments: Mapping[int, Segment], pending: Pending) -> None:
        views = {number: segment.view for number, segment in segments.items()}
        pending.wait()
        self._made = self._thread.submit(job.run, self._repo, job_, views)

    def result(self, wait: bool) -> Done | BaseException | None:
        made = self._made
        if made is None or not (wait or made.done()):
            return None
        error = made.exception()
        self._made = None
        return made.result() if error is None else error

    def close(self) -> None:
        self._thread.shutdown()


class ProcessWorker:
    """A process that has the store open, with the segments mapped."""

    def __init__(self, store: Path, nice: int = NICE) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = (str(theirs.fileno()), str(nice), str(store))
            command = interpreter.command("castore.training.worker:main", *arguments)
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        self._connection = Connection(ours.detach())
        self._sent: set[int] = set()
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="castore-send")
        self._sending: Future[None] | None = None

    def submit(self, job_: Job, segments: Mapping[int, Segment], pending: Pending) -> None:
        if self._process.poll() is not None:
            raise self._died()
        # Beside the loop too: writing a job of thousands of chunks out takes a tenth of the copy's time.
        self._sending = self._sender.submit(self._send, job_, segments, pending)

    def _send(self, job_: Job, segments: Mapping[int, Segment], pending: Pending) -> None:
        written = ForkingPickler.dumps(job_)  # meanwhile copies are made
        pending.wait()
        self._connection.send_bytes(written)
        for number, _ in job_.segments:
            if number not in self._sent:
                send_handle(self._connection, segments[number].fd, self._process.pid)
        self._sent = {number for number, _ in job_.segments}

    def result(self, wait: bool) -> Done | BaseException | None:
        if self._sending is not None:
            if not (wait or self._sending.done()):
                return None
            error = self._sending.exception()
            self._sending = None
            if error is not None:
                return self._died() if isinstance(error, OSError) else error
        try:
            if not wait and not self._connection.poll():
                return None
            outcome: Done | BaseException = self._connection.recv()
            return outcome
        except (EOFError, OSError):
            return self._died()

    def _died(self) -> WorkerDiedError:
        self._connection.close()
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return WorkerDiedError(
            f"the process that makes commits ended ({how}), perhaps for want of memory; the commit that it was to "
            "make is lost, the store and all commits before are as they were"
        )

    def close(self) -> None:
        self._sender.shutdown()
        self._connection.close()
        self._process.wait()


class _Telling(Silent):
    """Notes go to the loop with the result, since nobody reads what this process prints."""

    def __init__(self) -> None:
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        self._notes.append(text)

    def taken(self) -> list[str]:
        """The notes since the last call."""
        notes, self._notes = self._notes, []
        return notes


def main(arguments: Sequence[str]) -> None:
    """The process."""
    fd, nice, store = arguments
    serve(int(fd), int(nice), store)


def serve(fd: int, nice: int, store: str) -> None:
    """The process: takes jobs from the connection `fd` until it is closed."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    os.nice(nice)
    connection = Connection(fd)
    segments: dict[int, Segment] = {}
    repo: Repository | None = None
    telling = _Telling()
    while True:
        try:
            wanted: Job = connection.recv()
            for number in [number for number in segments if number not in dict(wanted.segments)]:
                segments.pop(number).close()
            for number, nbytes in wanted.segments:
                if number not in segments:
                    segments[number] = arena.attach(number, recv_handle(connection), nbytes)
        except (EOFError, OSError):
            return  # the loop is gone, or wants no more
        outcome: Done | BaseException
        try:
            repo = repo or Repository(Path(store), telling)
            repo.chunks.pool.nice = 0 if wanted.effort == FAST else NICE_IN_FULL - nice
            outcome = job.run(repo, wanted, {number: segment.view for number, segment in segments.items()})
            outcome = dataclasses.replace(outcome, notes=tuple(telling.taken()))
        except CastoreError as error:
            outcome = error
        except Exception as error:
            # An error of ours that may not be fit to travel: its text is.
            outcome = CastoreError(f"the commit failed: {type(error).__name__}: {error}")
        try:
            connection.send(outcome)
        except OSError:
            return
