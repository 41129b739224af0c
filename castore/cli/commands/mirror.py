"""castore mirror"""

from __future__ import annotations

import time

import click

from castore.cli.output import json_option, print_json, printable
from castore.cli.session import Session, pass_session
from castore.cli.tier_records import mirror_record
from castore.errors import CorruptError
from castore.maintenance.reports import MirrorReport
from castore.quantities import size

EPILOG = """\b
Examples:
  castore mirror
  castore mirror --seconds 600          begin nothing more after ten minutes; the next run goes on
"""


@click.command("mirror", epilog=EPILOG)
@click.option(
    "--seconds", metavar="N", type=click.FloatRange(min=0), help="Begin nothing more when N seconds have passed."
)
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, seconds: float | None, as_json: bool) -> None:
    """Copy each commit of a tier that names a second directory to that directory, where it is not there yet. What is
    copied is read back before it counts. The directory holds a store that opens by itself: `castore -C DIR log`.

    A directory that is gone or full is named, and keeps nothing else from being copied.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    with session.store() as store:
        report = store.mirror(deadline)
    print_json(mirror_record(report)) if as_json else print_report(report)
    if not report.ok:
        errors = [one.error for one in report.directories if one.error is not None]
        ctx.exit(errors[0].exit_code if errors else CorruptError.exit_code)


def print_report(report: MirrorReport) -> None:
    """A line for each directory, and on stderr one for each thing that is wrong."""
    if not report.directories:
        click.echo("no tier names a directory")
    for one in report.directories:
        where = printable(str(one.directory))
        left = (f", {one.left} wait" if one.left else "") + (
            f", {one.dropped} were dropped before" if one.dropped else ""
        )
        click.echo(f"{where} ({', '.join(one.tiers)}): {one.copied} copied, {size(one.new_bytes)} added{left}")
        for line in one.failed:
            click.echo(f"castore: {where}: {printable(line)}", err=True)
        if one.error is not None:
            click.echo(f"castore: tier {', '.join(one.tiers)}: {printable(str(one.error))}", err=True)
