"""Progress on a terminal and none elsewhere; what a person must know is said either way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from castore.cli.output import printable
from castore.progress import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


@contextmanager
def progress_for(stream: TextIO) -> Iterator[Progress]:
    """A reporter for the body: bars on a terminal, and nothing but notes on anything else."""
    if not stream.isatty():
        yield NotesOnly(stream)
        return
    progress = TerminalProgress(stream)
    try:
        yield progress
    finally:
        progress.close()


class NotesOnly(Silent):
    """Passes over progress and prints notes, such as that a damaged file is kept as plain bytes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        self._stream.write(_note_line(text))
        self._stream.flush()


class TerminalProgress:
    """Draws the running phase as a bar and leaves the screen clean when it is over.

    rich is imported when the first phase starts: a command without long phases never pays for it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._bars: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, phase: str, total: int | None, unit: str) -> None:
        with self._lock:
            self._end()
            self._bars = _bars(self._stream, total, unit)
            self._bars.start()
            self._task = self._bars.add_task(phase, total=total)

    def advance(self, amount: int) -> None:
        with self._lock:
            if self._bars is not None and self._task is not None:
                self._bars.advance(self._task, amount)

    def note(self, text: str) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.console.print(_note_line(text), end="", markup=False, highlight=False, soft_wrap=True)
            else:
                self._stream.write(_note_line(text))
                self._stream.flush()

    def finish(self) -> None:
        with self._lock:
            self._end()

    def close(self) -> None:
        """End a phase that an error cut short, so that the error's line stands alone."""
        self.finish()

    def _end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._task = None


def _note_line(text: str) -> str:
    return f"castore: note: {printable(text)}\n"


def _bars(stream: TextIO, total: int | None, unit: str) -> RichProgress:
    from rich import progress as rich_progress
    from rich.console import Console

    columns: list[rich_progress.ProgressColumn] = [
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
    ]
    if total is None:
        columns.append(rich_progress.TextColumn("{task.completed} " + unit))
    elif unit == "bytes":
        columns += [rich_progress.DownloadColumn(), rich_progress.TransferSpeedColumn()]
    else:
        columns += [rich_progress.MofNCompleteColumn(), rich_progress.TextColumn(unit)]
    if total is not None:
        columns.append(rich_progress.TimeRemainingColumn())
    return rich_progress.Progress(*columns, console=Console(file=stream), transient=True)
