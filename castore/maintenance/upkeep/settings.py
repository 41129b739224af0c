"""castore.toml's tables `[maintain]` and `[scrub]`: what is due how often, and what it may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from castore import config
from castore.config import Config
from castore.errors import UsageError
from castore.maintenance.verifying.verification import Replay
from castore.monitoring.settings import known_keys
from castore.repo import Repository
from castore.retention import amounts

_NEVER = "never"
DEFAULT_TIME_S = 600.0
MAX_SPAN_S = 100 * 365.25 * 86400  # for who can't do with "never"


@dataclass(frozen=True, slots=True)
class Settings:
    """every_s: by task, how long after one run the next is due, infinite for never. time_s, rate: see `Pace`, where
    the caller gives none. within_s: in how long a scrub covers the store. replay: what verify is to run, which
    castore.toml never says: a store does not name code that is run."""

    every_s: Mapping[str, float]
    time_s: float = DEFAULT_TIME_S
    rate: float | None = None
    within_s: float = 30 * 86400.0
    replay: Replay | None = None


def settings(repo: Repository, defaults: Mapping[str, str]) -> Settings:
    """The settings of a store. defaults: how often each task is due. Raises UsageError that names file and setting."""
    try:
        return of_config(repo.config, defaults)
    except UsageError as error:
        raise UsageError(f"{repo.path / config.NAME}: {error}") from None


def of_config(given: Config, defaults: Mapping[str, str]) -> Settings:
    """The settings of castore.toml. Raises UsageError."""
    known_keys("maintain", given.maintain, ("time", "rate", *defaults))
    known_keys("scrub", given.scrub, ("within",))
    table = given.maintain
    return Settings(
        {name: _every(name, str(table.get(name, default))) for name, default in defaults.items()},
        time_span("maintain: time", str(table["time"])) if "time" in table else DEFAULT_TIME_S,
        byte_rate("maintain: rate", str(table["rate"])) if "rate" in table else None,
        time_span("scrub: within", str(given.scrub.get("within", "30d"))),
    )


def _every(name: str, text: str) -> float:
    if text == _NEVER:
        return math.inf
    try:
        return time_span(f"maintain: {name}", text)
    except UsageError:
        raise UsageError(f"maintain: {name} takes never, or a span of time such as 12h or 7d, not {text!r}") from None


def time_span(name: str, text: str) -> float:
    """Seconds, above 0: "10m", "12h", "30d". Raises UsageError that begins with `name`."""
    seconds = amounts.span(name, text).total_seconds()
    if not seconds:
        raise UsageError(f"{name} takes a span of time above 0, not {text!r}")
    return seconds


def byte_rate(name: str, text: str) -> float:
    """Bytes a second, above 0: "50MB/s". Raises UsageError that begins with `name`."""
    try:
        nbytes = amounts.size(name, text.removesuffix("/s"))
    except UsageError:
        nbytes = 0
    if not nbytes:
        raise UsageError(f"{name} takes a rate such as 50MB/s, not {text!r}")
    return float(nbytes)
