"""The options by which `verify` and `maintain` are told what to replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from castore.maintenance.verifying.verification import Replay

Command = TypeVar("Command", bound=Callable[..., Any])


def replay_options(command: Command) -> Command:
    """`--replay`, `--steps`, `--metric` and `--tolerance`, for `replay_of`."""
    options = (
        click.option(
            "--replay", "function", metavar="MODULE:FUNCTION", help="A function that runs steps from a commit."
        ),
        click.option("--steps", metavar="K", type=click.IntRange(min=1), help="How many steps to replay."),
        click.option(
            "--metric", metavar="NAME", default="loss", help="By which name commits have the loss.  [default: loss]"
        ),
        click.option(
            "--tolerance",
            metavar="T",
            type=click.FloatRange(min=0),
            help="How far losses may lie apart, as a share of the recorded one.  [default: not by a bit]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def replay_of(
    function: str | None, steps: int | None, metric: str, tolerance: float | None, branch: str | None = None
) -> Replay | None:
    """What the options ask for. Raises click.UsageError for one of a pair."""
    if function is None and steps is None:
        return None
    if function is None or steps is None:
        raise click.UsageError("--replay and --steps go together")
    return Replay(function, steps, metric, branch, tolerance)
