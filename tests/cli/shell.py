"""Runs castore in a directory: in a process of its own, as users do, or in the test's, which is ten times faster."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from castore.cli.main import main

SETTINGS = ("CASTORE_STORE", "CASTORE_DEBUG", "CASTORE_SIGNING_KEY", "CASTORE_ALLOWED_SIGNERS", "NO_COLOR", "COLUMNS")


@dataclass(frozen=True)
class Shell:
    """A directory to run castore in, without the user's own settings."""

    directory: Path

    def start(
        self, *arguments: str | Path, program: Sequence[str] = ("-m", "castore"), **how: Any
    ) -> subprocess.Popen[str]:
        """Start castore, or another program of this Python, and return the process."""
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        environment.update(how.pop("env", {}))
        return subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            cwd=self.directory,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
        )

    def run(self, *arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run castore to its end, whatever its exit code."""
        process = self.start(*arguments, **how)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, *arguments: str | Path, **how: Any) -> str:
        """Run castore, which must succeed; what it printed."""
        done = self.run(*arguments, **how)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *arguments: str | Path, **how: Any) -> Any:
        """Run castore with --json; what it printed, parsed."""
        return json.loads(self.ok(*arguments, "--json", **how))

    def refused(self, code: int, *arguments: str | Path, **how: Any) -> str:
        """Run castore, which must fail with `code` and one line on stderr, and print nothing else; that line."""
        done = self.run(*arguments, **how)
        assert done.returncode == code, done
        assert done.stdout == ""
        assert done.stderr.startswith("castore: ")
        assert done.stderr.count("\n") == 1
        assert done.stderr.endswith("\n")
        return done.stderr


@dataclass(frozen=True)
class InProcess(Shell):
    """The same without a process: what castore's `main` prints and returns."""

    @property
    def process(self) -> Shell:
        """The same directory, with real processes."""
        return Shell(self.directory)

    def run(self, *arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run castore to its end, whatever its exit code. how: only `env`."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.directory)
            for name in SETTINGS:
                patch.delenv(name, raising=False)
            for name, value in how.get("env", {}).items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
