"""castore sign"""

from __future__ import annotations

from pathlib import Path

import click

from castore.cli.account_records import signature_record
from castore.cli.options import key_option
from castore.cli.output import json_option, print_json, printable, short, yellow
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore sign --key ~/.ssh/id_ed25519
  castore sign main~3
"""


@click.command("sign", epilog=EPILOG)
@click.argument("rev", required=False, default="HEAD")
@key_option
@json_option
@pass_session
def command(session: Session, rev: str, key: Path | None, as_json: bool) -> None:
    """Sign the commit REV (HEAD unless you name another). That vouches for its state and for all commits before it.

    A commit may have signatures of several people. `castore commit -S` signs what it commits, `castore tag -s` a tag.
    Only a store made with --hash blake3 names commits so that a signature can vouch for them.
    """
    with session.store() as store:
        made = store.sign(rev, key)
    if as_json:
        print_json(signature_record(made))
    else:
        click.echo(f"signed {yellow(short(made.commit))} with {printable(made.key)}")
