from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from castore import _fs
from castore.history.refs import Refs

SCRIPT = Path(__file__).with_name("increment_branch.py")
SOURCE = Path(__file__).resolve().parents[2]


def test_processes_that_move_one_branch_at_once_lose_no_update(tmp_path: Path) -> None:
    refs = Refs(tmp_path, 32, _fs.Lock(tmp_path / "lock", timeout_s=60))
    with refs.lock.held():
        refs.initialise()
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(tmp_path), "25", str(number)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        for number in range(4)
    ]
    outputs = [process.communicate()[0] for process in processes]

    assert [process.returncode for process in processes] == [0] * 4
    assert all(int(output) >= 0 for output in outputs)
    assert refs.branch("main") == f"{100:032x}"
    for log in ("HEAD", "refs/heads/main"):
        entries = refs.reflog.read(log)
        assert [int(entry.new, 16) for entry in entries] == list(range(1, 101))
        assert [int(entry.old or "0", 16) for entry in entries] == list(range(100))
        assert refs.reflog.damaged_lines(log) == []
    assert sorted({entry.author for entry in refs.reflog.read("HEAD")}) == [f"process {n}" for n in range(4)]
