"""Alerts: somebody is told of what went wrong, by a command or a webhook that castore.toml names.

A store from a stranger could name a command. So hooks run only where the store and its castore.toml belong to the user
who runs castore, or to root, and nobody else can write them: the rule of Git's `safe.directory`. And since an archive
belongs to who unpacks it, castore.toml must say by `place` that they are meant for this directory on this machine. What
opens, lists or loads never raises an alert at all.

A hook runs in a process of its own, beside whoever raises the alert: it holds nobody up, and what becomes of it is said
and never raised.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore import config, interpreter, limits
from castore.errors import CastoreError, CorruptError, UsageError
from castore.monitoring.events import Events
from castore.monitoring.settings import AlertSettings, alert_settings

if TYPE_CHECKING:
    from subprocess import Popen

_REPEAT_S = 86400.0  # a condition that lasts is told of again after a day
_MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))  # machine-id(5)
_MOST_WAIT_S = 2 * limits.HOOK_TIMEOUT_S + 10


class Alerts:
    """The alerts of one store."""

    def __init__(self, root: Path, events: Events, note: Callable[[str], None]) -> None:
        """root: the store's own directory. note: is told of a hook that failed."""
        self._root = root
        self._events = events
        self._note = note

    def send(self, event: str, text: str, *, wait: bool = False, condition: str = "", **facts: Any) -> bool:
        """Tell whoever is to be told of `event`, one of `settings.EVENTS`. Returns whether it was told now.

        text: one line. wait: return when the hooks are done; else they go on beside. condition: what lasts (a budget
        that is reached): the same one is told of once a day at most. facts: more, for a program to read. Never raises
        for a hook that can't be run.
        """
        if condition and (self._events.read_only or self._told(event, condition)):
            return False
        self._events.record("alert", of=event, condition=condition, text=text[:500])
        settings = self._trusted()
        if settings is None or event not in settings.events:
            return True
        told = {"event": event, "text": text, "store": str(self._root), "time": round(time.time(), 3), **facts}
        hooks = {"command": list(settings.command), "webhook": settings.webhook, "told": told}
        self._start(hooks, wait)
        return True

    def _told(self, event: str, condition: str) -> bool:
        now = time.time()
        try:
            return any(
                one.kind == "alert"
                and (one.facts.get("of"), one.facts.get("condition")) == (event, condition)
                and now - _REPEAT_S < one.time <= now
                for one in self._events.read()
            )
        except CorruptError as error:
            self._note(f"it is not known which alerts were sent before: {error}")
            return False

    def _trusted(self) -> AlertSettings | None:
        """The settings, if there are hooks and they are to be trusted; a note says why not."""
        try:
            table, objection = read_table(self._root)
            settings = alert_settings(table)
        except (CastoreError, OSError) as error:
            self._note(f"no alert is sent: {self._root / config.NAME}: {error}")
            return None
        if settings.has_hooks and objection:
            self._note(f"the hooks of {self._root / config.NAME} are not run: {objection}")
        return settings if settings.has_hooks and not objection else None

    def _start(self, hooks: dict[str, Any], wait: bool) -> None:
        import json
        import subprocess

        try:
            process = subprocess.Popen(
                interpreter.command("castore.monitoring.hooks:main"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # it outlives the loop that failed
            )
        except OSError as error:
            self._note(f"the alert's hooks could not be run: {error}")
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            pipe.write(json.dumps(hooks))
        process.stdin = None
        waiting = threading.Thread(target=self._end, args=(process,), name="castore-alert", daemon=True)
        waiting.start()
        if wait:
            waiting.join()

    def _end(self, process: Popen[str]) -> None:
        from subprocess import TimeoutExpired

        try:
            said, _ = process.communicate(timeout=_MOST_WAIT_S)
        except (TimeoutExpired, OSError) as error:
            process.kill()
            process.wait()
            said = str(error)
        for line in said.splitlines():
            self._events.record("failure", of="alert", text=line[:500])
            self._note(line)


def read_table(root: Path) -> tuple[dict[str, Any], str]:
    """The table `[alerts]` as it stands on disk, and why its hooks must not be run, "" if they may.

    Raises CorruptError, UsageError, OSError.

    It is read anew, through the directory that was looked at, so that it is the one whose owner was asked for.
    """
    with contextlib.ExitStack() as opened:
        directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, directory)
        fd = os.open(config.NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        file = opened.enter_context(os.fdopen(fd, "rb"))
        objection = _objection(root, os.fstat(directory), os.fstat(fd))
        table = config.parse(file.read(limits.MAX_CONFIG_BYTES + 1), root / config.NAME).get("alerts", {})
        place = place_of(os.fstat(directory))
    if not isinstance(table, dict):
        raise UsageError("alerts should be a table")
    if not objection and table.get("place") != place:
        objection = f'nobody says that they are meant for here; if you wrote them, add to [alerts]: place = "{place}"'
    return table, objection


def place_of(directory: os.stat_result) -> str:
    """A word for a directory of this machine that who packs an archive elsewhere cannot know."""
    from hashlib import sha256

    machine = b""
    for path in _MACHINE_IDS:
        with contextlib.suppress(OSError):
            machine = machine or path.read_bytes().strip()
    return sha256(machine + b" %d" % directory.st_ino).hexdigest()[:16]


def _objection(root: Path, directory: os.stat_result, file: os.stat_result) -> str:
    for one, what in ((directory, str(root)), (file, config.NAME)):
        if one.st_uid not in (0, os.geteuid()):
            return f"{what} belongs to user {one.st_uid}, and hooks are run for its owner alone"
    others = stat.S_IWGRP | stat.S_IWOTH
    if directory.st_mode & others or (file.st_mode & others and directory.st_mode & (stat.S_IXGRP | stat.S_IXOTH)):
        return "others than its owner can write it"
    return ""
