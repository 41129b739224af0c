"""What is said of a commit beside its state: by the caller, and by the process that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from castore import limits
from castore.errors import UsageError
from castore.history.actor import now, whoami
from castore.objects.commit import OWNER

if TYPE_CHECKING:
    from castore.state.provenance import Recorded


@dataclass(frozen=True, slots=True)
class Details:
    """What is said of a commit. metrics: finite or not, as floats. meta: notes by name.

    environment: a few words on what made it. provenance: the object that says all of that.
    """

    message: str
    step: int | None
    metrics: Mapping[str, float]
    meta: Mapping[str, str]
    tier: str | None
    author: str
    time: datetime
    environment: Mapping[str, str]
    provenance: bytes

    def owned_by(self, owner: str) -> Details:
        """Itself, with an owner where it names none and there is one."""
        return self if OWNER in self.meta or not owner else replace(self, meta={**self.meta, OWNER: owner})

    def checked(self) -> Details:
        """Itself, with metrics as floats. Raises UsageError that names what is of the wrong type."""
        if self.step is not None:
            check_step(self.step)
        if len(self.message.encode("utf-8", "surrogatepass")) > limits.MAX_MESSAGE_BYTES:
            raise UsageError(
                f"the message is longer than {limits.MAX_MESSAGE_BYTES} bytes; put it in a file and commit that"
            )
        metrics = {}
        for name, value in self.metrics.items():
            try:
                metrics[str(name)] = float(value)
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"metric {name!r} must be a number, not {type(value).__name__}") from None
        return replace(self, metrics=metrics, meta={str(name): str(text) for name, text in self.meta.items()})


def check_step(step: object) -> None:
    """Raises UsageError for what is no number of a step."""
    if type(step) is not int or step < 0:
        raise UsageError(f"step must be a whole number from 0 on, not {step!r}")


def details(
    message: str = "",
    step: int | None = None,
    metrics: Mapping[str, float] | None = None,
    meta: Mapping[str, str] | None = None,
    tier: str | None = None,
    author: str | None = None,
    time: datetime | None = None,
    owner: str | None = None,
    recorded: Recorded | None = None,
) -> Details:
    """Details, with what the caller left out: who commits, the time, and what this process is."""
    if recorded is None:
        from castore.state.provenance import run_of_process

        recorded = run_of_process().record()
    notes = {**(meta or {}), **({OWNER: owner} if owner else {})}
    by, at = author or whoami(), time or now()
    told = Details(message, step, metrics or {}, notes, tier, by, at, recorded.summary, recorded.data)
    return told.checked()
