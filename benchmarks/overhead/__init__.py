"""What checkpoints cost a training run, one group per file: `run(bench)` yields figures, tables, samples and bars.

`python -m benchmarks training --only NAME` runs one of them.
"""

from __future__ import annotations

# Groups by the name that --only takes, in the order in which they run; the module of each has the same name.
GROUPS = ("stall", "memory", "growth", "resume", "every_step")
ON_DEVICE = ("stall", "resume", "every_step")  # those that `--device cuda` has

ROUNDS, QUICK_ROUNDS = 3, 1
