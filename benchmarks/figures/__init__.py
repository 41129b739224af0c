"""The figures of the store, one group per file: `run(bench)` yields figures and series.

`python -m benchmarks store --only NAME` runs one of them.
"""

from __future__ import annotations

# Groups by the name that --only takes, in the order in which they run; the module of each has the same name.
GROUPS = ("stored", "commit", "load", "depth", "one_tensor", "memory", "small", "growth", "log")

ROUNDS, QUICK_ROUNDS = 5, 2
# A round of these is a whole trajectory committed anew for each setting.
FEWER_ROUNDS = {"depth": 2}
