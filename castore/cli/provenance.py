"""What produced a commit, as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from castore.cli.output import bold, print_fields, print_table, printable

if TYPE_CHECKING:
    from castore.objects.provenance import Provenance
    from castore.state.provenance.differences import Difference

# What a person asks first comes first; a section that is not named here comes last.
_ORDER = (
    *("code", "command", "config", "hyperparameters", "seeds", "numerics", "data", "notes", "python", "torch"),
    *("hardware", "distributed", "system", "packages"),
)
_MOST_CHARS = 60  # of a text in a table
_MOST_LINES = 20  # of a diff, or a build of torch


def print_provenance(made: Provenance) -> None:
    """Each section with its texts; those of several lines below their name."""
    for section in sorted(made.sections, key=_rank):
        click.echo(f"\n{bold(printable(section))}")
        texts = sorted(made.sections[section].items())
        print_fields([(f"  {printable(name)}", printable(text)) for name, text in texts if "\n" not in text])
        for name, text in texts:
            if "\n" in text:
                lines = text.split("\n")
                left = f" ({len(lines)} lines; --json has them all)" if len(lines) > _MOST_LINES else ""
                click.echo(f"  {printable(name)}{left}")
                for line in lines[:_MOST_LINES]:
                    click.echo(f"    {printable(line)}".rstrip())


def print_differences(found: Sequence[Difference]) -> None:
    """A table of what differs; a star marks what can change results."""
    rows = [
        (
            "*" if one.matters else "",
            f"{printable(one.section)} {printable(one.name)}",
            _shown(one.old),
            _shown(one.new),
        )
        for one in sorted(found, key=lambda one: (not one.matters, _rank(one.section), one.name))
    ]
    print_table(("", "what", "old", "new"), rows)
    matter = sum(one.matters for one in found)
    click.echo(f"{len(found)} differences, {matter} of which can change results" if found else "no differences")


def _rank(section: str) -> tuple[int, str]:
    return (_ORDER.index(section) if section in _ORDER else len(_ORDER), section)


def _shown(text: str | None) -> str:
    if text is None:
        return "-"
    if "\n" in text:
        return f"({text.count(chr(10)) + 1} lines)"
    return printable(text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}...")
