"""What produces a run's commits: its code, settings, packages, machine and flags, without loading anything for it."""

from __future__ import annotations

from castore.state.provenance.run import Recorded, Run, run_of_process

__all__ = ["Recorded", "Run", "run_of_process"]
