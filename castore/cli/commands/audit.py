"""castore audit"""

from __future__ import annotations

import re

import click

from castore.cli.account_records import audit_record, audit_report_record
from castore.cli.output import green, json_option, print_json, printable, red, short, timestamp, yellow
from castore.cli.session import Session, pass_session
from castore.errors import CorruptError
from castore.history.audit_line import AuditEntry

_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")

EPILOG = """\b
Examples:
  castore audit -n 20            the last twenty changes
  castore audit --check          is the log whole, and does it fit the refs?
  castore audit --check --head HASH
"""


@click.command("audit", epilog=EPILOG)
@click.option("-n", "--max-count", "limit", metavar="N", type=click.IntRange(min=0), help="List at most N entries.")
@click.option("--check", is_flag=True, help="Verify the chain of hashes, and the branches and tags against it.")
@click.option("--head", metavar="HASH", help="With --check: the hash that an earlier check gave, which must be there.")
@json_option
@pass_session
@click.pass_context
def command(
    ctx: click.Context, session: Session, limit: int | None, check: bool, head: str | None, as_json: bool
) -> None:
    """List who changed the store, when and how, newest first; or check that the list is whole.

    Exits with 9 if --check finds something. Keep the hash that it gives where those who can write to the store cannot:
    with --head it proves that nothing before it was changed or cut off.
    """
    if head is not None and not check:
        raise click.UsageError("--head goes with --check")
    if check and limit is not None:
        raise click.UsageError("--check reads the whole log: leave out -n")
    with session.store() as store:
        if check:
            report = store.check_audit(head)
        else:
            entries = store.audit(limit)
    if not check:
        print_json([audit_record(one) for one in entries]) if as_json else print_entries(entries)
        return
    if as_json:
        print_json(audit_report_record(report))
    else:
        for error in report.errors:
            click.echo(f"{red('error')}: {printable(error)}")
        for note in report.notes:
            click.echo(f"note: {printable(note)}")
        verdict = green("ok") if report.ok else red("broken")
        click.echo(f"{verdict}: {report.entries} entries, head {report.head or 'none'}")
    if not report.ok:
        ctx.exit(CorruptError.exit_code)


def print_entries(entries: list[AuditEntry]) -> None:
    """A line each: number, time, who, what, to what, from where to where, and what else there is to say."""
    for entry in entries:
        event = entry.event
        moved = [short(one) if one is not None else "none" for one in (event.old, event.new)]
        parts = [
            f"{entry.number}",
            timestamp(entry.time),
            printable(entry.who),
            event.action,
            short(event.subject) if _ID.fullmatch(event.subject) else printable(event.subject),
            f"{moved[0]}..{yellow(moved[1])}" if event.old is not None or event.new is not None else "",
            printable(event.detail),
        ]
        click.echo(" ".join(part for part in parts if part))
