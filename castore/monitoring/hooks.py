"""The process that runs the hooks of one alert. What fails is a line of its output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from castore import limits

_MOST_SAID = 200  # characters of what a command says of its failure


def main(_arguments: Sequence[str]) -> int:
    """Read what to tell, and whom, from standard input; returns the exit code."""
    hooks: dict[str, Any] = json.load(sys.stdin)
    body = json.dumps(hooks["told"])
    failed = [*run_command(hooks["command"], body, hooks["told"]), *post(hooks["webhook"], body)]
    with contextlib.suppress(BrokenPipeError):  # whoever raised the alert is gone
        sys.stdout.writelines(f"{line}\n" for line in failed)
        sys.stdout.flush()
    return 1 if failed else 0


def run_command(command: Sequence[str], body: str, told: dict[str, Any]) -> Iterator[str]:
    """Run a command, never by a shell, with `body` on its standard input; a line if it fails."""
    if not command:
        return
    what = f"the alert's command {command[0]!r}"
    environment = {**os.environ, "CASTORE_STORE": told["store"]}
    environment |= {"CASTORE_EVENT": told["event"], "CASTORE_EVENT_TEXT": told["text"]}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=told["store"],
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        yield f"{what} could not be run: {error}"
        return
    try:
        said, _ = process.communicate(body.encode(), timeout=limits.HOOK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it began
        process.wait()
        yield f"{what} was ended: it took more than {limits.HOOK_TIMEOUT_S:.0f} s"
        return
    if process.returncode != 0:
        text = " ".join(said.decode("utf-8", "replace").split())[:_MOST_SAID]
        yield f"{what} failed with exit code {process.returncode}" + (f": {text}" if text else "")


def post(address: str | None, body: str) -> Iterator[str]:
    """POST the JSON `body`; a line if that fails."""
    if address is None:
        return
    from http.client import HTTPException
    from urllib.parse import urlsplit
    from urllib.request import Request, urlopen

    request = Request(address, body.encode(), {"Content-Type": "application/json"}, method="POST")
    try:
        with urlopen(request, timeout=limits.HOOK_TIMEOUT_S):
            pass
    except (OSError, HTTPException, ValueError) as error:  # HTTPError, which a code of 400 on is, is an OSError
        yield f"the alert's webhook at {urlsplit(address).hostname} failed: {error}"  # the address may hold a secret
