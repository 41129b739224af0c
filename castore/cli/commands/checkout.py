"""castore checkout"""

from __future__ import annotations

import time
from pathlib import Path

import click

from castore.cli.output import json_option, print_json, printable
from castore.cli.session import Session, pass_session
from castore.quantities import size

EPILOG = """\b
Examples:
  castore checkout main~2 -o restored
  castore checkout v1.0 -o v1.pt --format pt
  castore checkout HEAD -o model.safetensors --only 'model.*' --format safetensors
"""


@click.command("checkout", epilog=EPILOG)
@click.argument("rev")
@click.option("-o", "--output", metavar="OUT", required=True, type=click.Path(path_type=Path), help="Where to write.")
@click.option("--only", metavar="PATTERN", multiple=True, help="Write only these paths, such as 'model.*'; repeatable.")
@click.option(
    "--format",
    "container",
    type=click.Choice(["pt", "safetensors"]),
    help="Write one file in this format: a .pt that torch.load(weights_only=True) reads, or a .safetensors.  "
    "[default: committed files as they were; a committed state by the ending of OUT, else pt]",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
@json_option
@pass_session
def command(
    session: Session,
    rev: str,
    output: Path,
    only: tuple[str, ...],
    container: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the state of commit REV to OUT, every chunk verified on the way.

    Committed files come back byte for byte: a single one as OUT, or in OUT if that is a directory; several below OUT.
    Nothing is ever written outside OUT or through a symbolic link, and nothing that is there is overwritten without
    --force.
    """
    begin = time.perf_counter()
    with session.store() as store:
        report = store.checkout(rev, output, only=only or None, format=container, force=force)
    seconds = time.perf_counter() - begin
    if as_json:
        print_json(
            {
                "files": [str(path) for path in report.files],
                "raw_bytes": report.raw_bytes,
                "dropped": list(report.dropped),
                "seconds": round(seconds, 6),
            }
        )
        return
    for path in report.files:
        click.echo(printable(str(path)))
    files = "1 file" if len(report.files) == 1 else f"{len(report.files)} files"
    click.echo(f"{files}, {size(report.raw_bytes)}, verified, {seconds:.2f} s")
    if report.dropped:
        left_out = ", ".join(map(printable, report.dropped))
        click.echo(f"castore: left out, since safetensors holds only tensors: {left_out}", err=True)
