"""What verify found, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.cli.output import green, print_table, printable, red, short, yellow
from castore.cli.provenance import print_differences
from castore.quantities import size

if TYPE_CHECKING:
    from castore.maintenance.verifying.verification import ReplayReport, VerifyReport


def print_report(report: VerifyReport) -> None:
    """What is wrong, a line each, the replay, and the verdict."""
    for problem in report.problems:
        click.echo(f"{red('error')}: {printable(problem)}")
    if report.replay is not None:
        print_replay(report.replay)
    verdict = green("ok") if report.ok else red("not ok")
    click.echo(
        f"{verdict}: {yellow(short(report.commit))} restored in a fresh process: {report.tensors} tensors, "
        f"{size(report.raw_bytes)}, {report.seconds:.1f} s"
    )


def print_replay(replay: ReplayReport) -> None:
    """The losses by step, where they diverge first, and what may explain it."""
    rows = [
        (str(one.step), repr(one.recorded), repr(one.replayed), "" if one.same else red("differs"))
        for one in replay.compared
    ]
    print_table(("step", "recorded", "replayed", ""), rows, numeric=(0, 1, 2))
    for note in replay.notes:
        click.echo(f"note: {printable(note)}")
    diverged = replay.diverged
    how = "bit for bit" if replay.replay.tolerance is None else f"within {replay.replay.tolerance:g}"
    if diverged is None:
        click.echo(f"{len(replay.compared)} losses are the same {how}")
        return
    click.echo(f"the losses diverge at step {diverged.step}")
    if replay.differences:
        click.echo("what is different here and may explain it:")
        print_differences(replay.differences)
    else:
        click.echo("nothing recorded of how the commit came about is different here")
