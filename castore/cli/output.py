"""How values look on the terminal and in `--json`: sizes, times, ids, colours, tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

SHORT_ID_DIGITS = 12


def json_option(command: Command) -> Command:
    """The `--json` of every command that prints data."""
    text = "Print JSON with the stable keys that docs/cli.md lists."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def print_json(value: Any) -> None:
    """Print one JSON value. NaN and infinities, which JSON lacks, become the strings "nan", "inf" and "-inf"."""
    import json

    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def percent(part: int, whole: int) -> str:
    """A share for people; "-" of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


def timestamp(time: datetime) -> str:
    """ISO 8601 to the second, with the UTC offset."""
    return time.isoformat(sep=" ", timespec="seconds")


def short(commit_id: str) -> str:
    """The start of an id, long enough to be typed back."""
    return commit_id[:SHORT_ID_DIGITS]


def metric(value: float) -> str:
    """A metric to six significant digits; `show --json` has all of them."""
    return f"{value:.6g}"


def printable(text: str) -> str:
    """Text from a store, with what could steer a terminal or break a line shown as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def first_line(message: str) -> str:
    """The first line of a commit message, as lists show it."""
    return printable(message.split("\n", 1)[0])


def yellow(text: str) -> str:
    """An id. Colours are dropped where stdout is no terminal, and under NO_COLOR."""
    return click.style(text, fg="yellow")


def green(text: str) -> str:
    """The current branch, something added."""
    return click.style(text, fg="green")


def red(text: str) -> str:
    """Something removed or wrong."""
    return click.style(text, fg="red")


def bold(text: str) -> str:
    """A heading."""
    return click.style(text, bold=True)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = ()) -> None:
    """Print aligned columns; the columns in `numeric` are right-aligned. Cells may be styled. No rows: nothing."""
    if not rows:
        return
    lines = [[bold(cell) for cell in header], *rows]
    widths = [max(len(click.unstyle(line[column])) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = []
        for column, cell in enumerate(line):
            blank = " " * (widths[column] - len(click.unstyle(cell)))
            cells.append(blank + cell if column in numeric else cell + blank)
        click.echo("  ".join(cells).rstrip())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print `name  value` lines with the values aligned."""
    width = max((len(name) for name, _ in fields), default=0)
    for name, value in fields:
        click.echo(f"{name:<{width}}  {value}".rstrip())
