"""castore init"""

from __future__ import annotations

from pathlib import Path

import click

from castore.cli.output import json_option, print_json
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore init                        create ./.castore
  castore init runs                   create runs/.castore
  castore init --shared ml runs       for all members of the group ml
  castore init --hash blake3 shared   for a store that strangers may write to
"""


@click.command("init", epilog=EPILOG)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["xxh3-128", "blake3"]),
    default="xxh3-128",
    show_default=True,
    help="What names chunks: xxh3-128 is the fastest; blake3 withstands people who forge collisions on purpose.",
)
@click.option(
    "--shared",
    metavar="GROUP",
    help="Let this group, by name or number, read and write the store.  [default: you alone]",
)
@json_option
@pass_session
def command(session: Session, directory: Path | None, hash_name: str, shared: str | None, as_json: bool) -> None:
    """Create an empty store in DIRECTORY/.castore, for you alone or a group.

    DIRECTORY is created if need be; it is the current directory unless you name one. A DIRECTORY that is itself
    named .castore becomes the store.
    """
    from castore import store as stores

    with stores.init(directory or session.location or Path(), hash=hash_name, shared=shared) as store:
        path = store.path.absolute()
    if as_json:
        print_json({"path": str(path), "hash": hash_name, "shared": shared})
    else:
        click.echo(f"created an empty store in {path}")
