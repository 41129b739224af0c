"""A line per commit, for people. Beside the command line the only place that prints, and only when asked to."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from castore.operations.effort import FAST
from castore.quantities import size
from castore.training.commits import Begun, Finished

Report = Callable[[str], None]
_LOG = logging.getLogger("castore")


def reporter(report: bool | Report | None) -> Report:
    """Where lines go. True: standard error; False: nowhere; None: there if it is a terminal, else to the log."""
    if callable(report):
        return report
    if report is None:
        return _print if sys.stderr.isatty() else _LOG.info
    return _print if report else lambda _line: None


def _print(line: str) -> None:
    tqdm = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is not None:
        tqdm.write(line, file=sys.stderr)  # above the bars that there are; without any it prints
    else:
        print(line, file=sys.stderr, flush=True)


def finished_line(done: Finished) -> str:
    """ "castore: step 300: 1.02 GB committed as 4f2a91c0, 213 MB new; loop stalled 0.11 s, done 1.8 s later"."""
    text = f"{_what(done.commit.step)}: {size(done.raw_bytes)} committed as {done.commit.id[:8]}"
    text += f", {size(done.new_bytes)} new{' (fast)' if done.effort == FAST else ''}"
    text += f"; loop stalled {done.stall_seconds:.3g} s"
    if done.waited_seconds >= 0.1 * done.stall_seconds and done.waited_seconds > 0.01:
        text += f" ({done.waited_seconds:.3g} s of it for the commit before)"
    return f"{text}, done {done.seconds:.3g} s later"


def skipped_line(step: int, reason: str, begun: Begun | None) -> str:
    busy = f"the commit of step {begun.step}" if begun is not None else "the commit before"
    return f"{_what(step)}: skipped ({reason}): {busy} is still being written"


def deferred_line(step: int, deferred: str) -> str:
    return f"{_what(step)}: postponed: {deferred}"


def failed_line(error: Exception) -> str:
    return f"castore: the commit before failed, and this one is made all the same: {error}"


def upkeep_line(why: str) -> str:
    return f"castore: upkeep of the store failed, and is tried again later: {why}"


def moved_line(branch: str, parent: str, ours: str) -> str:
    return (
        f"castore: {branch} was moved by somebody else, from {ours[:8]} to {parent[:8]}, which the newest commit now "
        "follows; give each run a branch of its own"
    )


def resumed_line(commit_id: str, branch: str, step: int | None) -> str:
    return f"castore: resumed {branch} from {commit_id[:8]}" + ("" if step is None else f", step {step}")


def _what(step: int | None) -> str:
    return "castore" if step is None else f"castore: step {step}"
