"""castore import"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from castore.cli.output import json_option, print_json, printable, short, yellow
from castore.cli.records import import_record
from castore.cli.session import Session, pass_session
from castore.quantities import size

if TYPE_CHECKING:
    from castore.operations.import_checkpoints import ImportedCheckpoint

EPILOG = """\b
Examples:
  castore import runs/old --dry-run
  castore import lightning_logs/version_0/checkpoints --branch exp1
  castore import out --pattern 'llama-7b-{step}.pt'
"""


@click.command("import", epilog=EPILOG)
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--branch", metavar="B", help="Commit to this branch; it is created if need be.  [default: HEAD's]")
@click.option(
    "--pattern",
    metavar="GLOB",
    help="Import only what has such a name; {step} or {epoch} in it says which number counts.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be imported and what left out; commit nothing.")
@json_option
@pass_session
def command(
    session: Session, directory: Path, branch: str | None, pattern: str | None, dry_run: bool, as_json: bool
) -> None:
    """Commit each checkpoint in DIR, oldest first, with its step and the time of its file.

    A checkpoint is a .pt, .pth, .ckpt, .bin or .safetensors, or a directory, whose name says a step (step_100.pt,
    epoch=3-step=900.ckpt, global_step1000/), else an epoch, else has a number (checkpoint-500/). What is left out is
    named with the reason. Nothing in a checkpoint is executed.

    An import that was interrupted can be run again: it passes over the steps that it has committed to the branch.
    """

    def tell(report: ImportedCheckpoint) -> None:
        if not as_json:
            click.echo(line(report))

    with session.store() as store:
        reports = store.import_checkpoints(directory, branch, pattern, dry_run, tell=tell)
    if as_json:
        print_json(import_record(reports, dry_run))
        return
    done = [report for report in reports if report.outcome in ("imported", "planned")]
    count = "1 checkpoint" if len(done) == 1 else f"{len(done)} checkpoints"
    if dry_run:
        click.echo(f"would import {count}")
        return
    raw, new = sum(report.raw_bytes for report in done), sum(report.new_bytes for report in done)
    click.echo(f"imported {count}: {size(raw)} committed, {size(new)} added to the store")


def line(report: ImportedCheckpoint) -> str:
    """What became of one entry of the directory."""
    name = printable(report.name)
    if report.outcome == "imported":
        took = f"{size(report.raw_bytes)}, {size(report.new_bytes)} added"
        return f"{yellow(short(report.commit))} step={report.step} {name}: {took}"
    if report.outcome == "planned":
        return f"would import step={report.step} {name}"
    return f"{'passed over' if report.outcome == 'present' else 'left out'} {name}: {printable(report.reason)}"
