"""What options mean: K=V pairs, and points in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_AGE = re.compile(r"(\d+)\.?(second|minute|hour|day|week)s?(\.ago)?")


def key_option(command: Command) -> Command:
    """The key of every command that signs."""
    return click.option(
        "--key",
        metavar="FILE",
        type=click.Path(path_type=Path),
        envvar="CASTORE_SIGNING_KEY",
        help="The SSH key to sign with: a private one, or a public one whose other half ssh-agent has.  "
        "[default: $CASTORE_SIGNING_KEY, else key in [signing] of castore.toml]",
    )(command)


def text_pairs(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """The callback of an option that takes K=V."""
    pairs = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not of the form K=V", ctx, param)
        pairs[key] = text
    return pairs


def number_pairs(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float]:
    """The callback of an option that takes K=V where V is a number."""
    numbers = {}
    for key, text in text_pairs(ctx, param, values).items():
        try:
            numbers[key] = float(text)
        except ValueError:
            raise click.BadParameter(f"the value of {key!r} is not a number: {text!r}", ctx, param) from None
    return numbers


def past_time(ctx: click.Context, param: click.Parameter, value: str) -> datetime:
    """The callback of an option that takes a time."""
    try:
        return parse_time(value, datetime.now().astimezone())
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no time; write now, 30.days or 2026-01-31", ctx, param) from None


def parse_time(text: str, now: datetime) -> datetime:
    """The time that `text` means at `now` (which has an offset).

    "now"; an age, such as "30.days" or "2.weeks.ago"; or ISO 8601, local where it has no offset.
    Raises ValueError, OverflowError.
    """
    if text == "now":
        return now
    age = _AGE.fullmatch(text)
    if age is not None:
        return now - timedelta(**{f"{age[2]}s": int(age[1])})
    time = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)  # Python 3.10 knows no Z
    return time if time.tzinfo is not None else time.astimezone()


def text_or_file(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that takes a text, or after an @ the file that holds it."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value[1:]!r} cannot be read: {error}", ctx, param) from None


def read_table(path: Path) -> dict[str, Any]:
    """What a file of TOML (by its suffix) or JSON holds, which must be a table. Raises click.BadParameter, OSError."""
    import json

    from castore.config import parse_toml

    try:
        data = path.read_text("utf-8")
        found = parse_toml(data) if path.suffix == ".toml" else json.loads(data)
    except (ValueError, RecursionError) as error:  # also what the parsers raise
        raise click.BadParameter(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{path} holds no table of names and values")
    return found
