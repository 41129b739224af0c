"""Verify: a commit restored end to end in a fresh process, and steps replayed from it there.

The process is a program that knows the whole public surface (`castore.training.restored`), so it is run by name: this
room does not know the rooms above it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from castore import interpreter
from castore.errors import CastoreError, DroppedError, ReplayError, StorageError, UsageError
from castore.history.verifications import Verification
from castore.history.walk import ancestors
from castore.maintenance.verifying.verification import Replay, ReplayReport, VerifyReport, compared
from castore.objects.commit import Commit
from castore.repo import Repository
from castore.state.provenance.differences import Difference

_MAX_ANSWER_BYTES = 64 << 20


def verify(repo: Repository, rev: str, replay: Replay | None, clock: Callable[[], datetime]) -> VerifyReport:
    """Restore a commit in a fresh process, check every tensor, replay steps if that is asked for, and note the time.

    What is wrong is in the report. Raises RevisionError, DroppedError; UsageError for a replay that nothing can be
    compared with; ReplayError when its function can't be run.
    """
    commit = repo.commit(repo.resolve(rev))
    drop = repo.drops.get(commit.id)
    if drop is not None and not drop.components:
        raise DroppedError(f"the state of {commit.id[:12]} was dropped by {drop.rule}: there is nothing to verify")
    losses = {} if replay is None else _recorded(repo, commit, replay)
    started = time.perf_counter()
    asked: dict[str, Any] = {"store": str(repo.path), "commit": commit.id}
    if replay is not None:
        asked["replay"] = {"function": replay.function, "steps": replay.steps}
    answer = _ask(asked, with_here=replay is not None)
    problems = tuple(answer["problems"])
    replayed = None
    if replay is not None and not problems:
        replayed = _replayed(replay, losses, answer["replay"])
    seconds = time.perf_counter() - started
    report = VerifyReport(commit.id, answer["tensors"], answer["raw_bytes"], seconds, problems, replayed)
    named = "" if replay is None else f"{replay.function}, {replay.steps} steps"
    with repo.lock.held():
        repo.verifications.add(Verification(commit.id, clock(), report.problem, named))
    return report


def replayable(repo: Repository, tip: str, steps: int) -> str | None:
    """The newest commit before `tip`, along first parents, with a whole state and `steps` steps behind it; None for
    none. Raises MissingError, CorruptError."""
    last = repo.commit(tip).step
    if last is None:
        return None
    for one in ancestors([tip], repo, first_parent=True):
        if one.step is not None and last - one.step >= steps and repo.drops.get(one.id) is None:
            return one.id
    return None


def _recorded(repo: Repository, commit: Commit, replay: Replay) -> dict[int, float]:
    """The losses of the steps to replay that commits have. Raises UsageError where there is none."""
    if replay.steps < 1:
        raise UsageError(f"a replay is of one step or more, not {replay.steps}")
    if commit.step is None:
        raise UsageError(f"{commit.id[:12]} has no step, so what comes after it can't be told")
    later = _later(repo, commit, replay.branch)
    losses = {one.step: one.metrics[replay.metric] for one in later if replay.metric in one.metrics}
    wanted = {step: loss for step, loss in losses.items() if step is not None and step <= commit.step + replay.steps}
    if wanted:
        return wanted
    if not losses:
        known = sorted({name for one in later for name in one.metrics})
        has = f"they have {', '.join(known)}" if known else f"there are {len(later)}, without metrics"
        raise UsageError(f"no commit after {commit.id[:12]} has a metric {replay.metric!r} to compare with; {has}")
    first = min(step for step in losses if step is not None)
    raise UsageError(
        f"the first loss recorded after step {commit.step} is that of step {first}: replay "
        f"{first - commit.step} steps or more"
    )


def _later(repo: Repository, commit: Commit, branch: str | None) -> list[Commit]:
    """What was committed on from a commit, oldest first, up to where a run went back to an earlier step."""
    branches = repo.refs.branches()
    if branch is not None and branch not in branches:
        raise UsageError(f"there is no branch {branch!r}; there are: {', '.join(sorted(branches)) or 'none'}")
    names = [branch] if branch is not None else sorted(branches)
    lines = {name: line for name in names if (line := _line(repo, branches[name], commit))}
    head = repo.refs.head().branch
    if len(lines) > 1 and head not in lines:
        raise UsageError(
            f"several branches lead on from {commit.id[:12]}: name one of {', '.join(lines)} with --branch"
        )
    chosen = lines.get(head or "") or next(iter(lines.values()), [])
    found: list[Commit] = []
    for one in chosen:
        last = found[-1] if found else commit
        if one.step is None or last.step is None or one.step <= last.step:
            break
        found.append(one)
    return found


def _line(repo: Repository, tip: str, commit: Commit) -> list[Commit]:
    found: list[Commit] = []
    for one in ancestors([tip], repo, first_parent=True):
        if one.id == commit.id:
            return found[::-1]
        found.append(one)
    return []


def _replayed(replay: Replay, recorded: dict[int, float], answer: dict[str, Any]) -> ReplayReport:
    losses = {int(step): float(loss) for step, loss in answer["losses"]}
    missing = sorted(recorded.keys() - losses.keys())
    if missing:
        raise ReplayError(f"{replay.function} gave no loss for step {missing[0]}, which is recorded")
    found = compared(recorded, losses, replay.tolerance)
    different = tuple(Difference(**one) for one in answer["differences"])
    return ReplayReport(replay, tuple(found), different, tuple(answer["notes"]))


def _ask(asked: dict[str, Any], with_here: bool) -> dict[str, Any]:
    """Run the process and hear what it found. What it prints goes to standard error.

    with_here: modules of the current directory can be imported, as with `python -m`.
    """
    path = [str(Path.cwd()), *sys.path] if with_here else sys.path
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as answers:
        try:
            arguments = (str(writing), json.dumps(asked))
            command = interpreter.command("castore.training.restored:serve", *arguments, path=path)
            process = subprocess.Popen(command, pass_fds=(writing,), stdin=subprocess.DEVNULL, stdout=2)
        finally:
            os.close(writing)
        with process:
            data = answers.read(_MAX_ANSWER_BYTES)
    if not data:
        code = process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise StorageError(f"the process that restored the commit ended ({how}), perhaps for want of memory")
    answer: dict[str, Any] = json.loads(data)
    if "error" in answer:
        kind = ReplayError if answer["kind"] == "replay" else CastoreError
        raise kind(answer["error"])
    return answer
