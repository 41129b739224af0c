"""castore scrub"""

from __future__ import annotations

import signal

import click

from castore.cli.budget import budget_options
from castore.cli.commands.fsck import describe
from castore.cli.output import green, json_option, print_json, printable, red
from castore.cli.records import scrub_record
from castore.cli.session import Session, pass_session
from castore.errors import CorruptError
from castore.maintenance.reports import ScrubReport
from castore.maintenance.upkeep.priority import step_back
from castore.quantities import size

EPILOG = """\b
Examples:
  castore scrub                      to the end of the round
  castore scrub --time 1h --rate 20MB/s
"""


@click.command("scrub", epilog=EPILOG)
@budget_options("as long as it takes", "as fast as the disk")
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, time_s: float | None, rate: float | None, as_json: bool) -> None:
    """Read every byte of the packs and check it, from where the last scrub stopped to the end of the round.

    `castore maintain` does it in shares. Runs at the lowest priority. Exits with 9 if damage was found; names the
    commits and tensors that it affects.
    """
    step_back()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the scrub notes its place
    with session.store() as store:
        report = store.scrub(time_s, rate)
    if as_json:
        print_json(scrub_record(report))
    elif report is None:
        click.echo("another process maintains this store; nothing to do")
    else:
        print_report(report)
    if report is not None and report.errors:
        ctx.exit(CorruptError.exit_code)


def print_report(report: ScrubReport) -> None:
    """What is damaged, then how far it got."""
    for warning in report.warnings:
        click.echo(f"castore: note: {printable(warning)}", err=True)
    for error in report.errors:
        click.echo(f"{red('error')}: {describe(error)}")
    verdict = red("damaged") if report.errors else green("ok")
    end = "the round is over" if report.finished else f"{100 * report.share:.0f}% of the round is behind"
    click.echo(f"{verdict}: {size(report.read_bytes)} read, {end}")
