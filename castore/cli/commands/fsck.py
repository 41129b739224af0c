"""castore fsck"""

from __future__ import annotations

import click

from castore.cli.output import green, json_option, print_json, printable, red, short
from castore.cli.records import fsck_record
from castore.cli.session import Session, pass_session
from castore.errors import CorruptError
from castore.maintenance.reports import FsckError, FsckReport
from castore.quantities import size

EPILOG = """\b
Examples:
  castore fsck                 packs, links and refs; reads no tensor data
  castore fsck --read-data     decode every record too
  castore fsck --read-data --repair
"""


@click.command("fsck", epilog=EPILOG)
@click.option("--read-data", is_flag=True, help="Read and decode every record, and check it against its id.")
@click.option(
    "--repair",
    is_flag=True,
    help="Take what is lost from second directories of tiers, put damaged records out of service, rebuild the index.",
)
@json_option
@pass_session
@click.pass_context
def command(ctx: click.Context, session: Session, read_data: bool, repair: bool, as_json: bool) -> None:
    """Check the store's checksums, links and bases, its small files and its audit log, and name the commits that any
    damage affects.

    Exits with 9 if something is wrong, or is still wrong after --repair.
    """
    with session.store() as store:
        report = store.fsck(read_data=read_data, repair=repair)
    if as_json:
        print_json(fsck_record(report))
    else:
        print_report(report)
    if not report.ok:
        ctx.exit(CorruptError.exit_code)


def print_report(report: FsckReport) -> None:
    """One line for each thing that is wrong, then what was done about it, then the verdict."""
    for error in report.errors:
        click.echo(f"{red('error')}: {describe(error)}")
    for line in report.repaired:
        click.echo(f"repaired: {printable(line)}")
    verdict = green("ok") if report.ok else red("damaged")
    click.echo(
        f"{verdict}: {report.packs} packs, {report.records} records, {report.commits} commits, "
        f"{size(report.read_bytes)} read"
    )


def describe(error: FsckError) -> str:
    """`record 3f9a… of pack ab12….pack: its checksum is wrong (commits …; tensors …)`."""
    place = ""
    if error.record:
        place += f"record {error.record} "
    if error.pack:
        place += f"of pack {error.pack} " if place else f"pack {error.pack} "
    line = f"{place.rstrip()}: {printable(error.problem)}" if place else printable(error.problem)
    affected = []
    if error.commits:
        affected.append("commits " + ", ".join(short(commit) for commit in error.commits))
    if error.paths:
        affected.append("in " + ", ".join(printable(path) for path in error.paths))
    return f"{line} ({'; '.join(affected)})" if affected else line
