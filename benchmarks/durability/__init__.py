"""What becomes of checkpoints under kills and flipped bits, and what durability costs, one group per file.

`python -m benchmarks durability --only NAME` runs one of them.
"""

from __future__ import annotations

# Groups by the name that --only takes, in the order in which they run; the module of each has the same name.
GROUPS = ("kills", "flips", "cost")

KILLS, FLIPS, ROUNDS = 200, 2000, 3
QUICK_KILLS, QUICK_FLIPS, QUICK_ROUNDS = 10, 50, 1
