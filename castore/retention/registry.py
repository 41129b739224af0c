"""The table of rules: how each is called, on the command line and in castore.toml, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from castore.retention import amounts
from castore.retention.budget import MaxBytes
from castore.retention.components import DropComponents
from castore.retention.keep import (
    PERIODS,
    KeepAccessed,
    KeepBest,
    KeepEvery,
    KeepLast,
    KeepPeriod,
    KeepRule,
    KeepTier,
    KeepWithin,
)

Rule = KeepRule | DropComponents


@dataclass(frozen=True, slots=True)
class RuleForm:
    """A rule as people write it. option: on the command line. read: from the option's name and its value."""

    option: str
    metavar: str
    help: str
    read: Callable[[str, str], Rule]

    @property
    def key(self) -> str:
        """Its name in castore.toml and in Python."""
        return self.option.removeprefix("--").replace("-", "_")


def _period(period: str) -> RuleForm:
    unit = {"daily": "day"}.get(period, period.removesuffix("ly"))
    text = f"Keep the newest of each of the last N {unit}s that have commits."
    return RuleForm(
        f"--keep-{period}", "N", text, lambda name, value: KeepPeriod(value, period, amounts.count(name, value))
    )


_ALL = (
    RuleForm("--keep-last", "N", "Keep the newest N.", lambda name, value: KeepLast(value, amounts.count(name, value))),
    RuleForm(
        "--keep-every",
        "N",
        "Keep those whose step is a multiple of N.",
        lambda name, value: KeepEvery(value, amounts.count(name, value)),
    ),
    RuleForm(
        "--keep-within",
        "TIME",
        "Keep those at most TIME (12h, 7d) older than the newest.",
        lambda name, value: KeepWithin(value, amounts.span(name, value)),
    ),
    RuleForm(
        "--keep-accessed",
        "TIME",
        "Keep those that were loaded or checked out in the last TIME.",
        lambda name, value: KeepAccessed(value, amounts.span(name, value)),
    ),
    *map(_period, PERIODS),
    RuleForm("--keep-best", "METRIC=min|max[:K]", "Keep the best K (1 unless you say) by a metric.", KeepBest.parse),
    RuleForm("--keep-tier", "TIER", "Keep those committed with this tier.", lambda name, value: KeepTier(value)),
    RuleForm(
        "--max-bytes",
        "SIZE",
        "Keep what scores highest, thinning with age, as long as it takes no more than SIZE (500MB, 2TB).",
        lambda name, value: MaxBytes(value, amounts.size(name, value)),
    ),
    RuleForm(
        "--drop-components",
        "PATTERN[:older-than=TIME]",
        "Of what is kept, drop these parts of the state, such as optimizer:older-than=7d.",
        DropComponents.parse,
    ),
)
FORMS = {form.key: form for form in _ALL}
