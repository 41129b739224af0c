"""Running the machine: so many examples of 75 steps, from a seed."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

import torch
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Machine

STEPS = 75
_EVERYTHING = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)


def run(number: int, examples: int, phases: Sequence[Phase] = _EVERYTHING) -> None:
    """Run so many examples; number: the seed. Raises what the machine finds, with the steps to it."""
    told = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Machine), settings=told)


def tried(number: int, examples: int) -> tuple[int, str]:
    """The steps of so many examples, and what was found, as a traceback; not made any smaller."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    before = Machine.steps
    try:
        run(number, examples, [Phase.generate])
    except Exception:
        return Machine.steps - before, traceback.format_exc()
    return Machine.steps - before, ""
