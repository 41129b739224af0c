"""castore diff"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from castore.cli.output import green, json_option, print_json, print_table, printable, red
from castore.cli.provenance import print_differences
from castore.cli.records import diff_record, difference_record
from castore.cli.session import Session, pass_session
from castore.operations.reports import Diff, TensorChange

EPILOG = """\b
Examples:
  castore diff main~1 main
  castore diff v1.0 exp1 --all
  castore diff main@{1} main --json
  castore diff main exp1 --env     what differs between these two runs?
"""

STYLES: dict[str, Callable[[str], str]] = {"added": green, "removed": red}


@click.command("diff", epilog=EPILOG)
@click.argument("a")
@click.argument("b")
@click.option("--all", "show_unchanged", is_flag=True, help="List unchanged tensors and values too.")
@click.option("--env", "env", is_flag=True, help="Compare what produced them instead: code, config, packages, machine.")
@json_option
@pass_session
def command(session: Session, a: str, b: str, show_unchanged: bool, env: bool, as_json: bool) -> None:
    """Show how the state of commit B differs from that of A, tensor by tensor: added, removed, reshaped,
    or changed, and by how much.

    relative L2 is ||new - old|| / ||old||, and max abs the largest |new - old|, both over all elements.

    With --env a star marks what can change results.
    """
    if env and show_unchanged:
        raise click.UsageError("--all lists tensors, and --env compares none; give one of them")
    with session.store() as store:
        if env:
            found = store.diff_provenance(a, b)
            if as_json:
                print_json([difference_record(one) for one in found])
            else:
                print_differences(found)
            return
        diff = store.diff(a, b)
    if as_json:
        print_json(diff_record(diff, show_unchanged))
        return
    print_changes(diff.tensors, show_unchanged)
    print_changes(diff.values, show_unchanged)
    click.echo(summary(diff))


def print_changes(changes: Sequence[TensorChange], show_unchanged: bool) -> None:
    """A table of what differs, and a blank line after it."""
    rows = [change_row(change) for change in changes if show_unchanged or change.change != "unchanged"]
    if rows:
        print_table(("change", "path", "what", "relative L2", "max abs"), rows, numeric=(3, 4))
        click.echo()


def change_row(change: TensorChange) -> tuple[str, ...]:
    """One line: what became of a path, and by how much."""
    what = change.new or change.old
    if change.old and change.new and change.old != change.new:
        what = f"{change.old} -> {change.new}"
    style = STYLES.get(change.change, str)
    return (
        style(change.change),
        printable(change.path),
        printable(what),
        number(change.relative_l2),
        number(change.max_abs),
    )


def number(value: float | None) -> str:
    """A size of change to three digits; nothing where there is none."""
    return "" if value is None else f"{value:.3g}"


def summary(diff: Diff) -> str:
    """`tensors: 12 changed, 1 added, 30 unchanged; values: 2 changed`."""
    values: dict[str, int] = {}
    for entry in diff.values:
        values[entry.change] = values.get(entry.change, 0) + 1
    return f"tensors: {counted(diff.counts)}; values: {counted(values)}"


def counted(counts: dict[str, int]) -> str:
    """Counts by kind of change, in a fixed order."""
    order = ("changed", "reshaped", "added", "removed", "unchanged")
    return ", ".join(f"{counts[change]} {change}" for change in order if counts.get(change)) or "none"
