"""When a training loop commits, as a value: from Python, from a mapping, or from castore.toml's table `[policy]`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from castore.errors import UsageError

_NULLABLE = frozenset({"every_steps", "every_seconds", "improved", "max_overhead"})
_BUSY = ("skip", "wait")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When to commit. Any trigger may be set, or several: a commit is due when one of them says so.

    Triggers. every_steps: at each multiple of it. every_seconds: when so long nothing was committed.
    improved: when a metric is better than ever: "loss" or "loss:min", "accuracy:max". steps: at each of these.
    With no trigger set, commits are made as often as max_overhead allows; the first after the first step, to learn what
    one costs.

    max_overhead: the share of training time that commits may cost, 0 (excluded) to 1; None: no bound. It postpones what
    every_steps, every_seconds and improved ask for, never chosen steps, preemption or what the program asks for itself.
    on_preemption: commit before the process ends by SIGTERM. on_exception: commit when the loop raises.
    when_busy: what happens to a commit that is due while as many as may be are in flight: "skip" or "wait".

    Raises UsageError, one line that names the setting and what is allowed.
    """

    every_steps: int | None = None
    every_seconds: float | None = None
    improved: str | None = None
    steps: Iterable[int] = ()  # a sorted tuple, once it is made
    on_preemption: bool = True
    on_exception: bool = False
    max_overhead: float | None = 0.035
    when_busy: str = "skip"

    def __post_init__(self) -> None:
        for name, read in _READERS.items():
            value = getattr(self, name)
            if value is not None or name not in _NULLABLE:
                object.__setattr__(self, name, read(name, value))
        if self.max_overhead is None and not self.has_trigger:
            raise UsageError(
                "policy: max_overhead = none without a trigger would commit after every step; "
                "set every_steps = 1 if that is meant, else another trigger or a bound"
            )

    @property
    def has_trigger(self) -> bool:
        """Whether something other than the bound decides."""
        return bool(self.every_steps or self.every_seconds or self.improved or self.steps)

    @property
    def metric(self) -> str | None:
        """The name of the metric that `improved` watches."""
        return None if self.improved is None else _metric(self.improved)[0]

    @property
    def higher_is_better(self) -> bool:
        """Whether that metric improves by growing."""
        return self.improved is not None and _metric(self.improved)[1] == "max"

    @classmethod
    def lean(cls) -> Policy:
        """Rarely, and never in the way: every 10 minutes, 1% of the time at most, skipped when busy."""
        return cls(every_seconds=600.0, max_overhead=0.01, when_busy="skip")

    @classmethod
    def critical(cls) -> Policy:
        """As often as 10% of the time allows, also when the loop raises; waits rather than leave a commit out."""
        return cls(max_overhead=0.1, when_busy="wait", on_exception=True)

    @classmethod
    def from_mapping(cls, table: Mapping[str, Any]) -> Policy:
        """The settings by name. `mode`: "lean" or "critical", which the other settings then change one by one.

        "none" stands for None, which TOML lacks. Raises UsageError.
        """
        settings = {str(name): value for name, value in table.items()}
        base = _mode(settings.pop("mode")) if "mode" in settings else None
        allowed = [field.name for field in fields(cls)]
        for name, value in settings.items():
            if name not in allowed:
                raise UsageError(f"policy: there is no setting {name!r}; there are: mode, {', '.join(allowed)}")
            if name in _NULLABLE and value == "none":
                settings[name] = None
        return cls(**settings) if base is None else replace(base, **settings)


def as_policy(value: Policy | str | Mapping[str, Any] | None) -> Policy:
    """The policy that is meant: itself, a mode's name, settings by name, or for None the default.

    Raises UsageError.
    """
    if value is None:
        return Policy()
    if isinstance(value, Policy):
        return value
    if isinstance(value, str):
        return _mode(value)
    if isinstance(value, Mapping):
        return Policy.from_mapping(value)
    raise UsageError(f"policy should be a Policy, a mode's name or a mapping, not {type(value).__name__}")


def _mode(name: Any) -> Policy:
    modes = {"lean": Policy.lean, "critical": Policy.critical}
    if not isinstance(name, str) or name not in modes:
        raise UsageError(f"policy: mode should be 'lean' or 'critical', not {name!r}")
    return modes[name]()


def _refused(name: str, allowed: str, value: Any) -> UsageError:
    none = " or none" if name in _NULLABLE else ""
    return UsageError(f"policy: {name} should be {allowed}{none}, not {value!r}")


def _integer(value: Any) -> int | None:
    """The whole number that `value` is, also one of NumPy's; None for anything else, and for a bool."""
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _count(name: str, value: Any) -> int:
    count = _integer(value)
    if count is None or count < 1:
        raise _refused(name, "a whole number from 1 on", value)
    return count


def _number(value: Any) -> float:
    """A finite number, or NaN for anything else."""
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _seconds(name: str, value: Any) -> float:
    if not (number := _number(value)) > 0:
        raise _refused(name, "a number of seconds above 0", value)
    return number


def _share(name: str, value: Any) -> float:
    if not 0 < (number := _number(value)) <= 1:
        raise _refused(name, "a share above 0 and up to 1, such as 0.035,", value)
    return number


def _metric(text: str) -> tuple[str, str]:
    name, colon, direction = text.rpartition(":")
    return (name, direction) if colon else (text, "min")


def _metric_text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _metric(value)[0] or _metric(value)[1] not in ("min", "max"):
        raise _refused(name, "a metric's name, which may end with ':min' or ':max',", value)
    return value


def _steps(name: str, value: Any) -> tuple[int, ...]:
    allowed = "a list of whole numbers from 0 on"
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _refused(name, allowed, value)
    steps = set()
    for one in value:
        step = _integer(one)
        if step is None or step < 0:
            raise UsageError(f"policy: {name} should be {allowed}; {one!r} is none")
        steps.add(step)
    return tuple(sorted(steps))


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused(name, "true or false", value)
    return value


def _busy(name: str, value: Any) -> str:
    if value not in _BUSY:
        raise _refused(name, "'skip' or 'wait'", value)
    return str(value)


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "every_steps": _count,
    "every_seconds": _seconds,
    "improved": _metric_text,
    "steps": _steps,
    "on_preemption": _flag,
    "on_exception": _flag,
    "max_overhead": _share,
    "when_busy": _busy,
}
