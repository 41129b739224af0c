"""castore stats"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from castore.cli.output import (
    first_line,
    json_option,
    percent,
    print_fields,
    print_json,
    print_table,
    printable,
    short,
    yellow,
)
from castore.cli.records import component_record, store_stats_record
from castore.cli.session import Session, pass_session
from castore.quantities import size

if TYPE_CHECKING:
    from castore.objects.commit import Commit
    from castore.operations.reports import StoreStats

EPILOG = """\b
Examples:
  castore stats
  castore stats --commits exp1
  castore stats --json | jq '.stored_bytes / .raw_bytes'
"""


@click.command("stats", epilog=EPILOG)
@click.option("--commits", is_flag=True, help="And what each commit that leads to REV took.")
@click.argument("rev", required=False, default="HEAD")
@json_option
@pass_session
def command(session: Session, rev: str, commits: bool, as_json: bool) -> None:
    """Show what the store holds, and what that takes: raw (every commit as a whole copy), after deduplication,
    and as stored with deltas and compression; for each component of the states, and with --commits for each commit
    that leads to REV (HEAD unless you name another).
    """
    with session.store() as store:
        stats = store.stats()
        listed = list(store.log(rev)) if commits else None
    if as_json:
        record = store_stats_record(stats)
        if listed is not None:
            record["per_commit"] = [
                {"id": commit.id, "step": commit.step, **component_record(commit.stats.total)} for commit in listed
            ]
        print_json(record)
        return
    print_totals(stats)
    print_components(stats)
    if listed is not None:
        print_commits(listed)


def print_totals(stats: StoreStats) -> None:
    """The store as a whole."""
    raw = stats.raw_bytes
    payload = stats.standalone_bytes + stats.delta_bytes
    lost = f", {stats.dropped} dropped and {stats.partial} partial" if stats.dropped or stats.partial else ""
    fields = [
        ("commits", f"{stats.commits}{lost}"),
        ("chunks", f"{stats.chunks} in {stats.packs} packs"),
        ("raw", f"{size(raw)} as whole copies"),
        ("unique", f"{size(stats.unique_bytes)} after deduplication, {percent(stats.unique_bytes, raw)} of raw"),
        ("stored", f"{size(stats.stored_bytes)} on disk, {percent(stats.stored_bytes, raw)} of raw"),
        ("deltas", f"{size(stats.delta_bytes)}, {percent(stats.delta_bytes, payload)} of the chunks' payload"),
        ("objects", f"{size(stats.object_bytes)} of trees and commits"),
    ]
    print_fields(fields + [(f"codec {name}", size(count)) for name, count in stats.codecs.items()])


def print_components(stats: StoreStats) -> None:
    """The sums over all commits, by component."""
    rows = [
        (
            printable(name),
            size(part.raw_bytes),
            size(part.new_raw_bytes),
            size(part.stored_bytes),
            size(part.delta_bytes),
            percent(part.stored_bytes, part.raw_bytes),
        )
        for name, part in stats.components.items()
    ]
    if rows:
        click.echo()
        print_table(("component", "raw", "new", "stored", "deltas", "stored/raw"), rows, numeric=range(1, 6))


def print_commits(commits: list[Commit]) -> None:
    """What each commit added."""
    rows = []
    for commit in commits:
        total = commit.stats.total
        rows.append(
            (
                yellow(short(commit.id)),
                "" if commit.step is None else str(commit.step),
                size(total.raw_bytes),
                size(total.new_raw_bytes),
                size(total.stored_bytes),
                size(total.delta_bytes),
                percent(total.stored_bytes, total.raw_bytes),
                first_line(commit.message),
            )
        )
    if rows:
        click.echo()
        header = ("commit", "step", "raw", "new", "stored", "deltas", "stored/raw", "message")
        print_table(header, rows, numeric=range(1, 7))
