"""castore salvage"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from castore.cli.output import json_option, print_json, printable, short
from castore.cli.progress import progress_for
from castore.cli.records import salvage_record
from castore.errors import CorruptError
from castore.maintenance.reports import SalvagedCommit, SalvageReport

EPILOG = """\b
Examples:
  castore salvage runs rescued                      from runs/.castore into rescued/.castore
  castore salvage runs rescued --from /mnt/disk2/archive --from /mnt/usb/old-packs
"""

_MOST_PATHS = 20


@click.command("salvage", epilog=EPILOG)
@click.argument("damaged", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--from",
    "others",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Take what this directory has too: a copy, or any files of packs; may be repeated.",
)
@json_option
@click.pass_context
def command(ctx: click.Context, damaged: Path, target: Path, others: tuple[Path, ...], as_json: bool) -> None:
    """Bring all that is readable of the store in DAMAGED into a new one in TARGET. DAMAGED is not written to.

    It works without footers, refs, castore.toml and index. Commits to which nothing leads get branches salvaged/1 ...;
    tensors that can't be read count as dropped, so the rest of their commit loads with --only. Exits with 9 if
    something was lost.
    """
    from castore.store import salvage

    with progress_for(sys.stderr) as progress:
        report = salvage(damaged, target, others, progress)
    print_json(salvage_record(report)) if as_json else print_report(report)
    if not report.whole:
        ctx.exit(CorruptError.exit_code)


def print_report(report: SalvageReport) -> None:
    """A line for each commit and ref of which something is lost or new, then the sum."""
    for one in report.commits:
        if one.lost or one.tree_lost:
            click.echo(_lost(one))
    for commit in report.lost_commits:
        click.echo(f"lost: commit {short(commit)}, that others came from")
    for commit in report.lost_provenance:
        click.echo(f"lost: of commit {short(commit)}: how it came about")
    for ref in report.lost_refs:
        click.echo(f"lost: {printable(ref)} leads to nothing that is left")
    for ref, source in report.moved_refs.items():
        click.echo(f"{printable(ref)} is at {short(report.refs[ref])}, by {printable(source)}")
    for branch, commit in report.branches.items():
        click.echo(f"branch {branch} is at {short(commit)}, to which nothing led")
    states = [one.state for one in report.commits]
    click.echo(
        f"{printable(str(report.path))}: {len(states)} commits, {states.count('present')} with their whole state, "
        f"{states.count('partial')} with a part of it; {report.records} good records of {report.packs} packs"
    )
    if not report.sound:
        click.echo("the new store is not sound; `castore fsck` says what is wrong")


def _lost(one: SalvagedCommit) -> str:
    if one.tree_lost:
        what = "its state, with what says what was in it"
    else:
        more = f" and {len(one.lost) - _MOST_PATHS} more" if len(one.lost) > _MOST_PATHS else ""
        what = ", ".join(printable(path) for path in one.lost[:_MOST_PATHS]) + more
    step = "" if one.step is None else f" (step {one.step})"
    return f"lost: of commit {short(one.commit)}{step}: {what}"
