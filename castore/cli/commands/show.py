"""castore show"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from castore.cli.output import (
    bold,
    green,
    json_option,
    metric,
    percent,
    print_fields,
    print_json,
    print_table,
    printable,
    red,
    timestamp,
    yellow,
)
from castore.cli.provenance import print_provenance
from castore.cli.records import (
    commit_record,
    commit_stats_record,
    drop_record,
    pin_record,
    provenance_record,
    verification_record,
)
from castore.cli.refs import RefNames
from castore.cli.session import Session, pass_session
from castore.objects.commit import Commit, ComponentStats
from castore.quantities import size

if TYPE_CHECKING:
    from castore.history.drops import Drop
    from castore.history.pins import Pin
    from castore.history.verifications import Verification
    from castore.operations.reports import TreeEntry

EPILOG = """\b
Examples:
  castore show
  castore show main~2 --tensors
  castore show main --env
  castore show v1.0 --only 'model.*' --json
"""


@click.command("show", epilog=EPILOG)
@click.argument("rev", required=False, default="HEAD")
@click.option("-t", "--tensors", is_flag=True, help="List what the state holds: tensors, files and values.")
@click.option("--only", metavar="PATTERN", multiple=True, help="List only these paths, such as 'model.*'; repeatable.")
@click.option("--env", "env", is_flag=True, help="List all that produced it: code, config, packages, machine, flags.")
@json_option
@pass_session
def command(session: Session, rev: str, tensors: bool, only: tuple[str, ...], env: bool, as_json: bool) -> None:
    """Show the commit REV (HEAD unless you name another): where it came from, its metrics, what it took,
    and what made it.
    """
    with session.store() as store:
        commit = store.show(rev)
        names = RefNames(store)
        signed = commit.id in store.signed()[0]
        drop, pin = store.drops().get(commit.id), store.pins().get(commit.id)
        verified = store.verifications().get(commit.id)
        made = store.provenance(commit.id) if env else None
        entries = list(store.entries(commit.id, only or None)) if tensors or only else None
    if as_json:
        record = commit_record(commit, None, names.at(commit.id), drop)
        del record["branch"]
        record["dropped"] = drop_record(drop)
        record["pinned"] = None if pin is None else pin_record(pin)
        record["signed"] = signed
        record["verified"] = verification_record(verified)
        record["environment"] = dict(commit.environment)
        record["stats"] = commit_stats_record(commit.stats)
        if made is not None:
            record["provenance"] = provenance_record(made)
        if entries is not None:
            record["entries"] = [entry_record(entry) for entry in entries]
        print_json(record)
        return
    print_header(commit, names.decoration(commit.id), drop, pin, signed, verified)
    print_sizes(commit.stats.components, commit.stats.total)
    if made is not None:
        print_provenance(made)
    elif commit.environment:
        click.echo()
        print_fields([(printable(name), printable(text)) for name, text in commit.environment.items()])
    if entries is not None:
        click.echo()
        rows = [
            (printable(e.path), what(e), size(e.raw_bytes) if e.raw_bytes else "", printable(e.value)) for e in entries
        ]
        print_table(("path", "what", "raw", "value"), rows, numeric=(2,))


def print_header(
    commit: Commit,
    decoration: str,
    drop: Drop | None,
    pin: Pin | None,
    signed: bool,
    verified: Verification | None,
) -> None:
    """The id, the facts, what became of the state, the message and the metrics."""
    click.echo(f"{bold('commit')} {yellow(commit.id)} {decoration}".rstrip())
    fields = [("parent", parent) for parent in commit.parents]
    fields += [("tree", commit.tree), ("author", printable(commit.author)), ("time", timestamp(commit.time))]
    if signed:
        fields.append(("signed", "yes; `castore verify --signatures` says by whom"))
    if commit.step is not None:
        fields.append(("step", str(commit.step)))
    if commit.tier is not None:
        fields.append(("tier", printable(commit.tier)))
    if drop is not None:
        what = f" ({printable(', '.join(drop.components))})" if drop.components else ""
        fields.append(("state", red(f"{drop.state}{what}, {timestamp(drop.time)}, by {printable(drop.rule)}")))
    if pin is not None:
        fields.append(("pinned", f"{timestamp(pin.time)} {printable(pin.reason)}".rstrip()))
    if verified is not None:
        what = green("ok") if verified.ok else red(printable(verified.problem))
        by = f", replayed by {printable(verified.replay)}" if verified.replay else ""
        fields.append(("verified", f"{timestamp(verified.time)} {what}{by}"))
    fields += [(f"meta {printable(name)}", printable(text)) for name, text in commit.meta.items()]
    fields += [(f"metric {printable(name)}", metric(value)) for name, value in commit.metrics.items()]
    print_fields(fields)
    if commit.message:
        click.echo()
        for line in commit.message.split("\n"):
            click.echo(f"    {printable(line)}".rstrip())
    click.echo()


def print_sizes(components: Mapping[str, ComponentStats], total: ComponentStats) -> None:
    """What each part of the state took, and the sum."""
    rows = [size_row(printable(name), stats) for name, stats in components.items()]
    rows.append(size_row("total", total))
    print_table(("component", "tensors", "raw", "new", "stored", "deltas", "stored/raw"), rows, numeric=range(1, 7))


def size_row(name: str, stats: ComponentStats) -> tuple[str, ...]:
    """A line of the table of components; "new" is what the store did not have yet."""
    return (
        name,
        str(stats.tensors),
        size(stats.raw_bytes),
        size(stats.new_raw_bytes),
        size(stats.stored_bytes),
        size(stats.delta_bytes),
        percent(stats.stored_bytes, stats.raw_bytes),
    )


def what(entry: TreeEntry) -> str:
    """`float32[384, 1536]` of a tensor, and the kind of anything else."""
    return f"{entry.dtype}{list(entry.shape)}" if entry.dtype else entry.kind


def entry_record(entry: TreeEntry) -> dict[str, object]:
    """A path of the state in JSON."""
    return {
        "path": entry.path,
        "kind": entry.kind,
        "dtype": entry.dtype,
        "shape": list(entry.shape),
        "raw_bytes": entry.raw_bytes,
        "value": entry.value,
    }
