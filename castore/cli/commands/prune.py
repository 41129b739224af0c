"""castore prune"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import click

from castore.cli.commands.gc import print_report as print_gc
from castore.cli.output import first_line, json_option, print_json, printable, red, short, yellow
from castore.cli.records import prune_record
from castore.cli.rules import chosen_rules, rule_options
from castore.cli.session import Session, pass_session
from castore.history.drops import DROPPED, PARTIAL
from castore.maintenance.reports import PruneReport
from castore.quantities import size
from castore.retention.decide import Verdict

EPILOG = """\b
Examples:
  castore prune --keep-last 5 --keep-every 50 --keep-best loss=min:3 --dry-run
  castore prune --keep-within 2d --keep-daily 14 --keep-monthly 12 --gc
  castore prune --drop-components optimizer:older-than=7d
  castore prune                         the rules of [retention] in castore.toml
"""


@click.command("prune", epilog=EPILOG)
@rule_options
@click.option("--branch", metavar="B", help="Only what branch B leads to, and no other branch.")
@click.option("--dry-run", is_flag=True, help="Say what becomes of each commit, why, and what it takes; drop nothing.")
@click.option("--gc", "collect", is_flag=True, help="Free the space at once, as `castore gc` does.")
@json_option
@pass_session
def command(
    session: Session,
    /,
    branch: str | None,
    dry_run: bool,
    collect: bool,
    ignore_config: bool,
    as_json: bool,
    **rules: Any,
) -> None:
    """Drop the states that no rule keeps. Commits stay, with their messages and metrics; `castore log` marks them.

    Rules add to each other: what one of them keeps is kept. Without a --keep-... rule and --max-bytes no whole state is
    dropped. Never dropped are the heads of branches, tagged and pinned commits, those that a run began from, the newest
    whole state of each branch, and commits whose times can't be right. Each branch is looked at by itself.
    """
    if dry_run and collect:
        raise click.UsageError("--gc frees space and --dry-run changes nothing: give one of them")
    with session.store() as store:
        report = store.prune(chosen_rules(store, rules, ignore_config), dry_run=dry_run, branch=branch)
        freed = store.gc() if collect else None
    if as_json:
        print_json(prune_record(report, freed))
        return
    for warning in report.warnings:
        click.echo(f"castore: note: {printable(warning)}", err=True)
    print_verdicts(report)
    if freed is not None:
        print_gc(freed)
    elif report.changed and not dry_run:
        click.echo("`castore gc` frees the space")


def print_verdicts(report: PruneReport) -> None:
    """A line for each commit of a dry run, else for each that lost something; then the sums."""
    for verdict in report.commits if report.dry_run else report.changed:
        held = report.alone_bytes.get(verdict.commit.id)
        click.echo(line(verdict) + (f" [{size(held)} alone]" if held is not None else ""))
    states = Counter(one.after for one in report.changed)
    would = "would drop" if report.dry_run else "dropped"
    what = [_counted(states[DROPPED], "")] if states[DROPPED] or not states[PARTIAL] else []
    what += [_counted(states[PARTIAL], "components of ")] if states[PARTIAL] else []
    click.echo(
        f"{would} {' and '.join(what)}, of {len(report.commits)} commits"
        + (f", which frees {size(report.freed_bytes)}" if report.freed_bytes is not None else "")
    )


def _counted(states: int, part: str) -> str:
    return f"{part}{states} {'state' if states == 1 else 'states'}"


def line(verdict: Verdict) -> str:
    """What becomes of a commit, and why."""
    commit = verdict.commit
    step = f"step={commit.step}" if commit.step is not None else ""
    return " ".join(
        part for part in (yellow(short(commit.id)), step, first_line(commit.message), fate(verdict)) if part
    )


def fate(verdict: Verdict) -> str:
    """`keep: --keep-last 5, tag v1.0`, and so on."""
    if verdict.before == DROPPED:
        return "dropped before"
    if verdict.after == DROPPED:
        return red(f"drop: kept by none of {printable(verdict.rule)}")
    why = f"keep: {listed(verdict.reasons)}"
    if verdict.rule:
        return f"{red(f'drop {listed(verdict.components)}: {printable(verdict.rule)}')}; {why}"
    return why


def listed(texts: Iterable[str]) -> str:
    """Texts from a store, one after another."""
    return ", ".join(printable(text) for text in texts)
