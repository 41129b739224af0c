"""Upkeep beside a training loop: `castore maintain` in a process of its own, at the lowest priority, never two."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import IO

from castore import interpreter
from castore.errors import CastoreError, CorruptError, UsageError
from castore.maintenance.upkeep.settings import of_config, time_span
from castore.maintenance.upkeep.tasks import EVERY
from castore.monitoring.settings import FAILED_SAVE
from castore.store import Store
from castore.training import console

DEFAULT_EVERY_S = 600.0  # what is not due costs that process a third of a second of what the loop leaves
_MOST_WAIT_S = 5.0  # for it to end when it is asked to


class Upkeep:
    """Starts `castore maintain` every so often, says what failed in a line, and never raises it into the loop."""

    def __init__(
        self,
        store: Store,
        maintain: bool | str,
        report: console.Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """maintain: False for none; True: every ten minutes; or how often, such as "1h". clock: seconds.

        Raises UsageError that names a setting of castore.toml which can't be meant.
        """
        if not isinstance(maintain, bool | str):
            raise UsageError(f"maintain is True, False or a span of time such as '1h', not {maintain!r}")
        self._every_s = time_span("maintain", maintain) if isinstance(maintain, str) else DEFAULT_EVERY_S
        if maintain:
            of_config(store.repository.config, EVERY)
        self._path = store.path
        self._report = report
        self._clock = clock
        self._next: float | None = clock() if maintain else None
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether there is a process whose end nobody has heard of yet."""
        return self._process is not None

    def poll(self) -> None:
        """Call at the end of a step: says what became of the process, and starts another one when it is time."""
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode)
        if self._next is not None and self._process is None and self._clock() >= self._next:
            self._next = self._clock() + self._every_s
            self._start()

    def close(self) -> None:
        """End the process, if there is one, and start no more."""
        self._next = None
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_MOST_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # which it is made for
            self._process.wait()
        self._forget()

    def _start(self) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        try:
            self._process = subprocess.Popen(
                interpreter.command("castore.cli.main:main", "-C", str(self._path), "maintain"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        except OSError as error:
            said.close()
            self._report(console.upkeep_line(str(error)))
            return
        self._said = said

    def _ended(self, code: int) -> None:
        if code != 0 and self._said is not None:
            self._said.seek(0)
            lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
            found = "it found damage; see `castore fsck`" if code == CorruptError.exit_code else f"exit code {code}"
            self._report(console.upkeep_line(lines[-1].removeprefix("castore: ") if lines else found))
        self._forget()

    def _forget(self) -> None:
        self._process = None
        if self._said is not None:
            self._said.close()
            self._said = None


def tell_of_failed_save(store: Store, branch: str, step: int | None, error: CastoreError) -> None:
    """Record that a commit of the loop's failed, and raise the alert, beside the loop."""
    repo = store.repository
    repo.events.failed("commit", error)
    text = f"a commit to {branch} of {store.path} failed: {error}"
    repo.alerts.send(FAILED_SAVE, text, branch=branch, step=step)
