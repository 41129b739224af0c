"""castore repack"""

from __future__ import annotations

import click

from castore.cli.output import json_option, print_json, printable, short
from castore.cli.records import repack_record
from castore.cli.session import Session, pass_session
from castore.maintenance.reports import RepackReport
from castore.quantities import size

EPILOG = """\b
Examples:
  castore repack --dry-run
  castore prune --keep-last 5 --keep-every 50 && castore repack && castore gc
  castore repack --seconds 600
"""


@click.command("repack", epilog=EPILOG)
@click.option("--dry-run", is_flag=True, help="Say how much would be encoded anew; change nothing.")
@click.option("--seconds", type=click.FloatRange(min=0), help="Begin nothing more after that time; run it again later.")
@json_option
@pass_session
def command(session: Session, dry_run: bool, seconds: float | None, as_json: bool) -> None:
    """Place deltas anew, and merge small packs. The newest state of each branch is to stand alone, so that it loads
    fast; those before it become deltas to newer ones, as deep as `[repack]` of castore.toml lets them.

    Runs safely beside commits, readers and gc. What lay below deltas and belongs to dropped states alone is needed by
    nothing afterwards: `castore gc` frees it.
    """
    with session.store() as store:
        report = store.repack(dry_run=dry_run, seconds=seconds)
    if as_json:
        print_json(repack_record(report))
    else:
        print_report(report)


def print_report(report: RepackReport) -> None:
    """What was left alone and why, what was done, and what the packs take."""
    for chunk, why in report.damaged.items():
        click.echo(f"chunk {short(chunk)} is left as it is: {printable(why)}")
    if not (report.encoded_chunks or report.moved_records or report.small_packs) and report.finished:
        click.echo("nothing to do")
        return
    encoded = f"{report.encoded_chunks} chunks anew, {size(report.encoded_bytes)} of raw bytes"
    if report.dry_run:
        click.echo(f"would encode {encoded}, and merge {report.small_packs} small packs")
        return
    click.echo(
        f"encoded {encoded}: {report.before_packs} packs of {size(report.before_bytes)} before, "
        f"{report.after_packs} of {size(report.after_bytes)} now"
    )
    if not report.finished:
        click.echo("the time is over; run `castore repack` again to go on")
