"""castore branch"""

from __future__ import annotations

import click

from castore.cli.output import first_line, green, json_option, print_json, short, yellow
from castore.cli.session import Session, pass_session
from castore.store import Store

EPILOG = """\b
Examples:
  castore branch                list them; * marks the current one
  castore branch exp1 main~3    a new branch, three commits back
  castore branch -f exp1 v1.0   move it
  castore branch -d exp1        delete it, if HEAD has its commits
  castore branch -D exp1        delete it all the same
"""


@click.command("branch", epilog=EPILOG)
@click.argument("name", required=False)
@click.argument("rev", required=False)
@click.option("-d", "--delete", is_flag=True, help="Delete NAME; refused if that would leave commits without a name.")
@click.option("-D", "force_delete", is_flag=True, help="Delete NAME whatever it leads to.")
@click.option("-f", "--force", is_flag=True, help="Move NAME if it exists; with -d, delete it whatever it leads to.")
@json_option
@pass_session
def command(
    session: Session,
    name: str | None,
    rev: str | None,
    delete: bool,
    force_delete: bool,
    force: bool,
    as_json: bool,
) -> None:
    """List the branches, or create NAME at REV (HEAD unless you name another)."""
    deleting = delete or force_delete
    if name is None and (deleting or force):
        raise click.UsageError("name the branch")
    if deleting and rev is not None:
        raise click.UsageError("deleting takes a NAME and no REV")
    with session.store() as store:
        if name is None:
            list_branches(store, as_json)
            return
        if deleting:
            commit = store.delete_branch(name, force=force_delete or force)
            said = f"deleted branch {name} (was {short(commit)})"
        else:
            commit = store.branch(name, rev or "HEAD", force=force)
            said = f"branch {name} is at {yellow(short(commit))}"
    if as_json:
        print_json({"name": name, "commit": commit, "deleted": deleting})
    else:
        click.echo(said)


def list_branches(store: Store, as_json: bool) -> None:
    """Each branch with its newest commit; `*` marks HEAD's."""
    current = store.head().branch
    branches = sorted(store.branches().items())
    if as_json:
        print_json([{"name": name, "commit": commit, "current": name == current} for name, commit in branches])
        return
    width = max((len(name) for name, _ in branches), default=0)
    for name, commit in branches:
        title = first_line(store.show(commit).message)
        shown = green(f"* {name:<{width}}") if name == current else f"  {name:<{width}}"
        click.echo(f"{shown} {yellow(short(commit))} {title}".rstrip())
