"""castore switch"""

from __future__ import annotations

import click

from castore.cli.output import json_option, print_json
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore switch exp1
  castore switch -c exp2 main~3
"""


@click.command("switch", epilog=EPILOG)
@click.argument("branch")
@click.argument("rev", required=False)
@click.option("-c", "--create", is_flag=True, help="Create BRANCH first, at REV (HEAD unless you name another).")
@json_option
@pass_session
def command(session: Session, branch: str, rev: str | None, create: bool, as_json: bool) -> None:
    """Make BRANCH the current one: what HEAD means, and where `castore commit` commits to."""
    if rev is not None and not create:
        raise click.UsageError("REV goes with --create")
    with session.store() as store:
        if create:
            store.branch(branch, rev or "HEAD")
        store.switch(branch)
        head = store.head()
    if as_json:
        print_json({"branch": head.branch, "commit": head.commit})
    else:
        click.echo(f"on branch {branch}")
