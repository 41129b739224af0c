"""castore tag"""

from __future__ import annotations

from pathlib import Path

import click

from castore.cli.options import key_option
from castore.cli.output import first_line, json_option, print_json, short, yellow
from castore.cli.session import Session, pass_session
from castore.store import Store

EPILOG = """\b
Examples:
  castore tag                 list them
  castore tag v1.0            name the current commit
  castore tag -s v1.1         name and sign it
  castore tag -f best main~3  move a tag
  castore tag -d v1.0
"""


@click.command("tag", epilog=EPILOG)
@click.argument("name", required=False)
@click.argument("rev", required=False)
@click.option("-d", "--delete", is_flag=True, help="Delete NAME.")
@click.option("-f", "--force", is_flag=True, help="Move NAME if it exists.")
@click.option("-s", "--sign", is_flag=True, help="Sign the tag with an SSH key; see docs/accountability.md.")
@key_option
@json_option
@pass_session
def command(
    session: Session,
    name: str | None,
    rev: str | None,
    delete: bool,
    force: bool,
    sign: bool,
    key: Path | None,
    as_json: bool,
) -> None:
    """List the tags, or name the commit REV (HEAD unless you name another) NAME."""
    if name is None and (delete or force or sign):
        raise click.UsageError("name the tag")
    if delete and (rev is not None or sign):
        raise click.UsageError("deleting takes a NAME and nothing else")
    with session.store() as store:
        if name is None:
            list_tags(store, as_json)
            return
        if delete:
            commit = store.delete_tag(name)
            said = f"deleted tag {name} (was {short(commit)})"
        else:
            commit = store.tag(name, rev or "HEAD", force=force, sign=sign and (key or True))
            said = f"tag {name} is at {yellow(short(commit))}"
    if as_json:
        print_json({"name": name, "commit": commit, "deleted": delete})
    else:
        click.echo(said)


def list_tags(store: Store, as_json: bool) -> None:
    """Each tag with its commit."""
    tags = sorted(store.tags().items())
    signed = set(store.signed()[1])
    if as_json:
        print_json([{"name": name, "commit": commit, "signed": name in signed} for name, commit in tags])
        return
    width = max((len(name) for name, _ in tags), default=0)
    for name, commit in tags:
        title = f"{'(signed) ' if name in signed else ''}{first_line(store.show(commit).message)}"
        click.echo(f"{name:<{width}} {yellow(short(commit))} {title}".rstrip())
