"""castore metrics"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import click

from castore.cli.output import json_option, print_json
from castore.cli.records import metrics_record
from castore.cli.session import Session, pass_session
from castore.monitoring.prometheus import exposition

EPILOG = """\b
Examples:
  castore metrics
  castore metrics --json | jq '.[] | select(.name == "castore_failures_total")'
  castore metrics --textfile /var/lib/node_exporter/castore.prom
"""


@click.command("metrics", epilog=EPILOG)
@click.option(
    "--textfile",
    metavar="PATH",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the text to PATH, whole, for node_exporter's textfile collector (PATH ends in .prom); print nothing.",
)
@json_option
@pass_session
def command(session: Session, textfile: Path | None, as_json: bool) -> None:
    """Print what the store holds and what happened in it: commits, stalls, restores, upkeep, failures.

    As text for Prometheus, or as JSON. Raises the alert for a run that has not committed for as long as [alerts] of
    castore.toml says.
    """
    with session.store() as store:
        families = store.metrics()
    if textfile is not None:
        write_whole(textfile, exposition(families))
    if as_json:
        print_json(metrics_record(families))
    elif textfile is None:
        click.echo(exposition(families), nl=False)


def write_whole(path: Path, text: str) -> None:
    """Old or new, never between, readable by others: node_exporter is another user. No fsync: the next run writes it.

    Raises OSError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
