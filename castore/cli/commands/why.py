"""castore why"""

from __future__ import annotations

from typing import Any

import click

from castore.cli.output import json_option, print_fields, print_json, printable, red, timestamp, yellow
from castore.cli.records import why_record
from castore.cli.rules import chosen_rules, rule_options
from castore.cli.session import Session, pass_session
from castore.history.drops import DROPPED, PARTIAL
from castore.maintenance.reports import Explanation
from castore.quantities import size

EPILOG = """\b
Examples:
  castore why main~3                    by the rules of [retention] in castore.toml
  castore why main:step=300 --keep-last 5 --keep-every 50
"""


@click.command("why", epilog=EPILOG)
@click.argument("rev")
@rule_options
@json_option
@pass_session
def command(session: Session, /, rev: str, ignore_config: bool, as_json: bool, **rules: Any) -> None:
    """Show which rules keep the state of the commit REV or drop it, when and why it was dropped if it was, and
    the bytes that it alone holds.
    """
    with session.store() as store:
        found = store.why(rev, chosen_rules(store, rules, ignore_config))
    if as_json:
        print_json(why_record(found))
        return
    for warning in found.warnings:
        click.echo(f"castore: note: {printable(warning)}", err=True)
    print_explanation(found)


def print_explanation(found: Explanation) -> None:
    """What is there, what becomes of it, why, and what it takes."""
    verdict, drop = found.verdict, found.drop
    fields = [("commit", yellow(verdict.commit.id)), ("state", verdict.before)]
    if drop is not None:
        what = f" {printable(', '.join(drop.components))}" if drop.components else ""
        fields.append(("dropped", f"{timestamp(drop.time)}{what} by {printable(drop.rule)}"))
    if verdict.before != DROPPED:
        fields += [("kept by", printable(reason)) for reason in verdict.reasons]
        if verdict.rule and verdict.after == PARTIAL:
            components = printable(", ".join(verdict.components))
            fields.append(("prune", red(f"would drop {components}, by {printable(verdict.rule)}")))
        elif verdict.rule:
            fields.append(("prune", red(f"would drop it: kept by none of {printable(verdict.rule)}")))
        fields.append(("alone", f"{size(found.alone_bytes)} that no other commit needs"))
    print_fields(fields)
