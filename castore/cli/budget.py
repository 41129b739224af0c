"""The options by which `maintain` and `scrub` are told what they may take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def budget_options(time_default: str, rate_default: str) -> Callable[[Command], Command]:
    """`--time` and `--rate`, as seconds and bytes a second."""

    def add(command: Command) -> Command:
        rate = f"How much a second is read or copied at most: 50MB/s.  [default: {rate_default}]"
        time = f"How long it may take: 10m, 2h.  [default: {time_default}]"
        command = click.option("--rate", metavar="RATE", callback=_rate, help=rate)(command)
        return click.option("--time", "time_s", metavar="TIME", callback=_time, help=time)(command)

    return add


def _time(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    from castore.maintenance.upkeep.settings import time_span

    return None if value is None else time_span("--time", value)


def _rate(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    from castore.maintenance.upkeep.settings import byte_rate

    return None if value is None else byte_rate("--rate", value)
