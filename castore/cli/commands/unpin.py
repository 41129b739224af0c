"""castore unpin"""

from __future__ import annotations

import click

from castore.cli.output import json_option, print_json, short, yellow
from castore.cli.records import pin_record
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore unpin main~3
"""


@click.command("unpin", epilog=EPILOG)
@click.argument("rev")
@json_option
@pass_session
def command(session: Session, rev: str, as_json: bool) -> None:
    """Let go of the pinned commit REV: from now on, rules decide on it."""
    with session.store() as store:
        pin = store.unpin(rev)
    if as_json:
        print_json(pin_record(pin))
    else:
        click.echo(f"unpinned {yellow(short(pin.commit))}")
