"""A process of test_refs_race: moves the branch `main` up by one, again and again, against others that do the same.

Arguments: the store, updates to make. Prints how many races it lost.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path

from castore import _fs
from castore.errors import RefConflictError
from castore.history.reflog import Change
from castore.history.refs import Refs


def main() -> None:
    root, updates = Path(sys.argv[1]), int(sys.argv[2])
    refs = Refs(root, 32, _fs.Lock(root / "lock", timeout_s=60))
    lost = 0
    for _ in range(updates):
        moved = False
        while not moved:
            seen = refs.branch("main")  # without the lock, as a commit reads its parent before it encodes
            new = f"{int(seen or '0', 16) + 1:032x}"
            change = Change(f"process {sys.argv[3]}", datetime.now(timezone.utc), "increment")
            try:
                with refs.lock.held():
                    refs.update_branch("main", new, expected=seen, change=change)
                moved = True
            except RefConflictError:
                lost += 1
    print(lost)


if __name__ == "__main__":
    main()
