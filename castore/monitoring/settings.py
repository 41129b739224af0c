"""castore.toml's table `[alerts]`: who is told, and of what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from castore.errors import UsageError
from castore.retention import amounts

FAILED_SAVE = "failed-save"
FAILED_VERIFICATION = "failed-verification"
FAILED_MAINTENANCE = "failed-maintenance"
DAMAGE = "damage"
BUDGET = "budget"
NO_COMMIT = "no-commit"
EVENTS = (FAILED_SAVE, FAILED_VERIFICATION, FAILED_MAINTENANCE, DAMAGE, BUDGET, NO_COMMIT)

_KEYS = ("command", "webhook", "events", "no_commit_for", "place")  # place: see `alerts.place_of`


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """command: a program and its arguments. webhook: an address that gets a POST. events: those that are told of.
    no_commit_for: how old the newest commit may get."""

    command: tuple[str, ...] = ()
    webhook: str | None = None
    events: frozenset[str] = frozenset(EVENTS)
    no_commit_for: timedelta | None = None

    @property
    def has_hooks(self) -> bool:
        """Whether anybody is told."""
        return bool(self.command or self.webhook)


def alert_settings(table: Mapping[str, Any]) -> AlertSettings:
    """The settings of a table. Raises UsageError that names what it does not know."""
    known_keys("alerts", table, _KEYS)
    events = _texts("events", table.get("events", list(EVENTS)))
    for event in events:
        if event not in EVENTS:
            raise UsageError(f"alerts: there is no event {event!r}; there are: {', '.join(EVENTS)}")
    age = table.get("no_commit_for")
    return AlertSettings(
        _texts("command", table.get("command", [])),
        _address(table["webhook"]) if "webhook" in table else None,
        frozenset(events),
        None if age is None else amounts.span("alerts: no_commit_for", str(age)),
    )


def known_keys(name: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raises UsageError that names the first key of a table which is not known."""
    for key in table:
        if key not in known:
            raise UsageError(f"{name}: there is no setting {key!r}; there are: {', '.join(known)}")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one and "\0" not in one for one in value):
        raise UsageError(f'alerts: {name} takes an array of texts, such as ["notify", "--urgent"], not {value!r}')
    return tuple(value)


def _address(value: Any) -> str:
    from urllib.parse import urlsplit  # 4 ms of imports that a store without a webhook has no use for

    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"alerts: webhook takes an address that begins with https:// or http://, not {value!r}")
    return str(value)
