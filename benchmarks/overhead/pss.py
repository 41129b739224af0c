"""Memory of a process and of all that it started: proportional set sizes, so that a shared page counts once."""

from __future__ import annotations

from pathlib import Path

PERIOD_S = 0.05


def tree_pss(root: int, with_root: bool = True) -> int:
    """Bytes of the processes below `root`, and of its own. A process that has just ended counts as none."""
    pids = [root] if with_root else _children(root)
    total = 0
    while pids:
        pid = pids.pop()
        total += _pss(pid)
        pids += _children(pid)
    return total


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return found  # it ended meanwhile
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended meanwhile
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
