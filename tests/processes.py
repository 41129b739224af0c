"""Real processes for tests, forked from a server that has torch and castore loaded: milliseconds each, not seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_LOADED = [
    "torch._dynamo",  # what torch.optim loads at the first optimizer
    *("torch", "numba", "castore.kernels.native", "castore.codecs.byte_planes", "castore.operations.commit"),
    *("castore.operations.load", "castore.state.live", "tests.workers", "tests.warmed"),
]
_ROOT = Path(__file__).parent.parent
_context = multiprocessing.get_context("forkserver")


def start(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start `work`, a function of `tests.workers`, in a process of its own."""
    outer = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(_ROOT)
    try:
        _context.set_forkserver_preload(_LOADED)
        ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if outer is not None:
            os.environ["PYTHONPATH"] = outer
    process = _context.Process(target=work, args=arguments)
    process.start()
    return process


def finish(processes: Iterable[BaseProcess]) -> None:
    """Wait for processes, which must all succeed."""
    processes = list(processes)
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def answer(work: Callable[[], str]) -> str:
    """What `work` returns, or how it fails, in a forked process that may change what a process is; a short text."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@contextlib.contextmanager
def stopped(work: Callable[..., None], *arguments: Any) -> Iterator[bool]:
    """Start `work`, which stops itself by a signal, and stands still while the body runs. Then it must succeed.

    Whether it did stop itself: it may have come to its end before. Where the body fails it is killed: the tests could
    not end before it.
    """
    process = start(work, *arguments)
    assert process.pid is not None
    try:
        while (state := _state(process.pid)) not in ("T", "Z", ""):
            os.sched_yield()
        yield state == "T"
        if state == "T":
            os.kill(process.pid, signal.SIGCONT)
        finish([process])
    finally:
        process.kill()


def _state(pid: int) -> str:
    """The state of a process, a letter of proc(5); "" where it has ended and somebody knows."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
