"""castore pin"""

from __future__ import annotations

import click

from castore.cli.output import first_line, json_option, print_json, short, timestamp, yellow
from castore.cli.records import pin_record
from castore.cli.session import Session, pass_session

EPILOG = """\b
Examples:
  castore pin                           list them
  castore pin main~3 -m "in the paper"
  castore unpin main~3
"""


@click.command("pin", epilog=EPILOG)
@click.argument("rev", required=False)
@click.option("-m", "--message", "reason", metavar="REASON", help="Why.")
@json_option
@pass_session
def command(session: Session, rev: str | None, reason: str | None, as_json: bool) -> None:
    """List the pins, or pin the commit REV: `castore prune` never drops its state, and `castore gc` never removes it,
    whether or not a branch or tag leads to it.
    """
    if rev is None and reason is not None:
        raise click.UsageError("name the commit to pin")
    with session.store() as store:
        if rev is not None:
            pinned = store.pin(rev, reason or "")
            if as_json:
                print_json(pin_record(pinned))
            else:
                click.echo(f"pinned {yellow(short(pinned.commit))}")
            return
        pins = sorted(store.pins().values(), key=lambda pin: pin.time)
    if as_json:
        print_json([pin_record(pin) for pin in pins])
        return
    for pin in pins:
        click.echo(f"{yellow(short(pin.commit))} {timestamp(pin.time)} {first_line(pin.reason)}".rstrip())
