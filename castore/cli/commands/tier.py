"""castore tier"""

from __future__ import annotations

import click

from castore.cli.output import json_option, print_fields, print_json, print_table, printable, short, timestamp, yellow
from castore.cli.session import Session, pass_session
from castore.cli.tier_records import tier_of_record, tier_record
from castore.maintenance.reports import TierOf, TierReport

EPILOG = """\b
Examples:
  castore tier                          list the tiers, and what there is of each
  castore tier main~3                   which tier it is of, and where it has copies
  castore tier main~3 archive           move it
"""


@click.command("tier", epilog=EPILOG)
@click.argument("rev", required=False)
@click.argument("tier", required=False)
@json_option
@pass_session
def command(session: Session, rev: str | None, tier: str | None, as_json: bool) -> None:
    """List the tiers of castore.toml (or those that there are by default); show which tier the commit REV is of; or let
    it be of TIER from now on: what the rules of that tier say goes for it then.
    """
    with session.store() as store:
        if rev is None:
            reports = store.tier_reports()
            print_json([tier_record(one) for one in reports]) if as_json else print_tiers(reports)
            return
        if tier is not None:
            moved = store.move_tier(rev, tier)
            if not as_json:
                click.echo(f"{yellow(short(moved.commit))} is of tier {moved.tier}")
                return
        found = store.tier_of(rev)
    print_json(tier_of_record(found)) if as_json else print_tier_of(found)


def print_tiers(reports: list[TierReport]) -> None:
    """A line for each."""
    rows = []
    for one in reports:
        tier = one.tier
        every = [f"{tier.every_steps} steps"] if tier.every_steps is not None else []
        every += [f"{tier.every_seconds:g} s"] if tier.every_seconds is not None else []
        rules = [text for text, _ in (*tier.rules.keep, *tier.rules.drop)]
        where = "" if one.directory is None else f"{printable(str(one.directory))}, {one.waiting} wait"
        rows.append((tier.name, " or ".join(every), printable(" ".join(rules)) or "keeps all", str(one.states), where))
    print_table(("tier", "every", "rules", "states", "copies"), rows, numeric=(3,))


def print_tier_of(found: TierOf) -> None:
    """The tier, and where copies lie."""
    fields = [("commit", yellow(found.commit)), ("tier", printable(found.tier or "none"))]
    if found.moved is not None:
        fields.append(("moved", f"{timestamp(found.moved.time)}, from {printable(found.made or 'none')}"))
    fields += [("copy in", printable(str(directory))) for directory in found.copies]
    print_fields(fields)
