"""castore maintain"""

from __future__ import annotations

import math
import signal

import click

from castore.cli.budget import budget_options
from castore.cli.commands.fsck import describe
from castore.cli.output import json_option, print_json, printable, red
from castore.cli.records import maintain_record
from castore.cli.replaying import replay_of, replay_options
from castore.cli.session import Session, pass_session
from castore.maintenance.upkeep import maintain
from castore.maintenance.upkeep.maintain import MaintainReport, TaskRun
from castore.maintenance.upkeep.priority import step_back
from castore.maintenance.upkeep.tasks import EVERY
from castore.quantities import duration

EPILOG = """\b
Examples:
  castore maintain                          what is due, for ten minutes at most
  castore maintain --time 1h --rate 50MB/s
  castore maintain --only gc,scrub --force  these now, whether they are due or not
  castore maintain --replay train:replay --steps 20
  castore maintain --dry-run                what is due, and when the rest will be
"""


@click.command("maintain", epilog=EPILOG)
@budget_options("[maintain] of castore.toml, else 10m", "[maintain] of castore.toml, else none")
@click.option("--only", metavar="TASK,...", default="", help=f"Only these tasks: {', '.join(EVERY)}.")
@click.option("--force", is_flag=True, help="Run them whether they are due or not.")
@replay_options
@click.option("--dry-run", is_flag=True, help="Say what is due; do nothing.")
@json_option
@pass_session
@click.pass_context
def command(
    ctx: click.Context,
    session: Session,
    time_s: float | None,
    rate: float | None,
    only: str,
    force: bool,
    function: str | None,
    steps: int | None,
    metric: str,
    tolerance: float | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run what is due: mirror, prune by the rules of castore.toml, repack, gc, verify, scrub. For cron.

    How often each is due stands in [maintain] of castore.toml. What is not finished in time goes on at the next run.
    Runs at the lowest priority, and can be ended at any time. Where another process maintains the store already, it
    says so and exits with 0. Exits with 9 if damage was found or a commit does not verify.

    With --replay, verify runs K real steps too: of each branch from the newest commit with so many behind it.
    """
    replay = replay_of(function, steps, metric, tolerance)
    step_back()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the scrub notes its place
    with session.store() as store:
        report = store.maintain(time_s, rate, [name for name in only.split(",") if name], force, dry_run, replay)
    for warning in report.warnings:
        click.echo(f"castore: note: {printable(warning)}", err=True)
    if as_json:
        print_json(maintain_record(report))
    else:
        print_report(report)
    for run in report.tasks:
        if run.error is not None:
            click.echo(f"castore: {run.name} failed: {printable(str(run.error))}", err=True)
    ctx.exit(report.exit_code)


def print_report(report: MaintainReport) -> None:
    """A line for each task, and for each thing that is damaged."""
    if report.busy:
        click.echo("another process maintains this store; nothing to do")
    for run in report.tasks:
        for error in run.report.errors if run.report is not None else ():
            click.echo(f"{red('error')}: {describe(error)}")
        for line in run.report.failed if run.report is not None else ():
            click.echo(f"{red('error')}: {printable(line)}")
        for warning in run.report.warnings if run.report is not None else ():
            click.echo(f"castore: note: {printable(warning)}", err=True)
        click.echo(f"{run.name}: {outcome(run)}")


def outcome(run: TaskRun) -> str:
    """`read 3.20 GB, nothing damaged; 40% of the round is behind (62 s)`, and so on."""
    if run.report is not None:
        more = "; the time is over, it goes on next time" if run.outcome == maintain.UNFINISHED else ""
        return f"{run.report.summary}{more} ({duration(run.seconds)})"
    if run.outcome == maintain.FAILED:
        return red("failed")
    if run.outcome == maintain.NO_TIME:
        return "due, but the time is over"
    if run.outcome == maintain.DUE:
        return "due"
    return "never due" if math.isinf(run.next_s) else f"due in {duration(run.next_s)}"
