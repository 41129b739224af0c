"""castore gc"""

from __future__ import annotations

import click

from castore.cli.output import first_line, json_option, print_json, short, yellow
from castore.cli.records import gc_record
from castore.cli.session import Session, pass_session
from castore.maintenance.reports import GcReport
from castore.quantities import size

EPILOG = """\b
Examples:
  castore gc --dry-run
  castore branch -D exp1 && castore reflog expire --expire=now --all && castore gc
"""


@click.command("gc", epilog=EPILOG)
@click.option("--dry-run", is_flag=True, help="Say what would go, and why nothing leads to it; remove nothing.")
@json_option
@pass_session
def command(session: Session, dry_run: bool, as_json: bool) -> None:
    """Remove the commits that no branch, tag, HEAD, pin or reflog leads to, and the chunks that only they used; and
    those of the states that `castore prune` dropped.

    Runs safely beside commits and readers. What the reflog remembers is kept until its entries expire: to free the
    space of a deleted branch at once, run `castore reflog expire --expire=now --all` first.
    """
    with session.store() as store:
        report = store.gc(dry_run=dry_run)
    if as_json:
        print_json(gc_record(report))
    else:
        print_report(report)


def print_report(report: GcReport) -> None:
    """The commits that went, then the sums."""
    for gone in report.unreachable:
        step = "" if gone.step is None else f" step={gone.step}"
        title = f" {first_line(gone.message)}" if gone.message else ""
        click.echo(f"{yellow(short(gone.commit))}{step}{title}: {gone.reason}")
    would = "would remove" if report.dry_run else "removed"
    free = "would free" if report.dry_run else "freed"
    click.echo(
        f"{would} {len(report.unreachable)} commits, {report.removed_chunks} chunks and {report.removed_packs} packs, "
        f"{report.rewritten_packs} packs rewritten, {report.live_chunks} chunks live"
    )
    click.echo(f"{free} {size(report.freed_bytes)}")
    if report.kept_by_reflogs:
        click.echo(
            f"{report.kept_by_reflogs} commits are kept by the reflog alone; "
            "`castore reflog expire --expire=now --all` lets go of them"
        )
