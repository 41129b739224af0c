"""castore reflog"""

from __future__ import annotations

from datetime import datetime

import click

from castore.cli.options import past_time
from castore.cli.output import first_line, json_option, print_json, printable, short, timestamp, yellow
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore reflog                  what HEAD was
  castore reflog exp1             what the branch exp1 was
  castore reflog expire --expire=now --all
"""


class ReflogGroup(click.Group):
    """`castore reflog REF` means `castore reflog show REF`, as in Git."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if first not in self.commands and first not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group("reflog", cls=ReflogGroup, epilog=EPILOG)
def command() -> None:
    """Show what a ref pointed to before, newest first (`castore reflog [show] [REF]`), or expire old entries.

    HEAD and every branch have a reflog, which is how a branch that was moved away from a commit is brought back to
    it: REF@{N} is a revision.
    """


@command.command("show")
@click.argument("ref", required=False, default="HEAD")
@json_option
@pass_session
def show(session: Session, ref: str, as_json: bool) -> None:
    """Show what REF, HEAD or a branch, pointed to, newest first."""
    with session.store() as store:
        entries = store.reflog(ref)
    if as_json:
        print_json(
            [
                {
                    "ref": ref,
                    "index": index,
                    "old": entry.old,
                    "new": entry.new,
                    "time": entry.time.isoformat(),
                    "author": entry.author,
                    "message": entry.message,
                }
                for index, entry in enumerate(entries)
            ]
        )
        return
    for index, entry in enumerate(entries):
        place = f"{printable(ref)}@{{{index}}}"
        click.echo(f"{yellow(short(entry.new))} {place} {timestamp(entry.time)} {first_line(entry.message)}".rstrip())


@command.command("expire")
@click.argument("ref", required=False)
@click.option(
    "--expire",
    "before",
    metavar="TIME",
    required=True,
    callback=past_time,
    help="Remove the entries older than this: now, 30.days, or a date or time in ISO 8601.",
)
@click.option("--all", "every", is_flag=True, help="The reflogs of all refs, deleted ones too.")
@json_option
@pass_session
def expire(session: Session, ref: str | None, before: datetime, every: bool, as_json: bool) -> None:
    """Forget what REF, or with --all every ref, pointed to before TIME.

    The commits that only these entries led to are what the next `castore gc` removes.
    """
    if (ref is None) != every:
        raise click.UsageError("name a REF, or say --all")
    with session.store() as store:
        expired = store.expire_reflog(ref, before)
    if as_json:
        print_json({"expired": expired})
    else:
        click.echo(f"expired {expired} entries")
