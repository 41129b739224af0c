"""What verify answers with."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from castore.state.provenance.differences import Difference


@dataclass(frozen=True, slots=True)
class Replay:
    """What to replay. function: "module:function". steps: how many. metric: by which name commits have the loss.

    branch: whose commits have the losses; None: the one that leads on from the commit. tolerance: how far losses may
    lie apart, as a share of the recorded one; None: not by a bit.
    """

    function: str
    steps: int
    metric: str = "loss"
    branch: str | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """The losses of one step."""

    step: int
    recorded: float
    replayed: float
    same: bool


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """compared: each step that a commit has the loss of. differences: what is other than it was when they were recorded
    and can change results. notes: what could not be restored exactly."""

    replay: Replay
    compared: tuple[Compared, ...]
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def diverged(self) -> Compared | None:
        """The first step whose loss is another; None: all are the same."""
        return next((one for one in self.compared if not one.same), None)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """commit: its full id. tensors, raw_bytes: what was restored and compared. problems: what is wrong, a line each."""

    commit: str
    tensors: int
    raw_bytes: int
    seconds: float
    problems: tuple[str, ...] = ()
    replay: ReplayReport | None = None

    @property
    def ok(self) -> bool:
        return not self.problems and (self.replay is None or self.replay.diverged is None)

    @property
    def problem(self) -> str:
        """In one line what is wrong, "" for nothing."""
        if self.problems:
            more = f", and {len(self.problems) - 1} more" if len(self.problems) > 1 else ""
            return self.problems[0] + more
        diverged = self.replay.diverged if self.replay is not None else None
        return "" if diverged is None else f"the replay diverges at step {diverged.step}"


def compared(recorded: Mapping[int, float], replayed: Mapping[int, float], tolerance: float | None) -> list[Compared]:
    """The losses of every step that both have, in order. One NaN is as good as another."""
    return [
        Compared(step, recorded[step], replayed[step], _same(recorded[step], replayed[step], tolerance))
        for step in sorted(recorded.keys() & replayed.keys())
    ]


def _same(recorded: float, replayed: float, tolerance: float | None) -> bool:
    if math.isnan(recorded) or math.isnan(replayed):
        return math.isnan(recorded) and math.isnan(replayed)
    if struct.pack("<d", recorded) == struct.pack("<d", replayed):
        return True
    return tolerance is not None and abs(replayed - recorded) <= tolerance * abs(recorded) < math.inf
