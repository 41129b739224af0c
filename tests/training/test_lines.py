"""What a Checkpointer says of its commits, and where to."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from castore.store import Store
from tests.training.small import Loop, checkpointer


def test_each_commit_has_its_line(store: Store) -> None:
    loop, lines = Loop(), []
    with checkpointer(store, loop, report=lines.append) as ckpt:
        for step in (5, 6):
            loop.train()
            ckpt.step(step)
    assert [line.split(":")[1] for line in lines] == [" step 5", " step 6"]
    for line, commit in zip(lines, reversed(list(store.log("main"))), strict=True):
        assert commit.id[:8] in line and " new; loop stalled " in line and " s later" in line and "\n" not in line
        raw = sum(part.raw_bytes for part in commit.stats.components.values())
        assert f"{raw / 1e3:.3g} kB committed" in line
    lines.clear()
    with checkpointer(store, loop, report=lines.append) as ckpt:
        assert ckpt.resume() == 7
    assert len(lines) == 1 and "resumed main" in lines[0] and "step 6" in lines[0]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_lines_go_to_the_log(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for made, lines_there, lines_logged in ((io.StringIO(), 0, 1), (Terminal(), 1, 0)):
        monkeypatch.setattr(sys, "stderr", made)
        with caplog.at_level(logging.INFO, "castore"), checkpointer(store, Loop(), report=None) as ckpt:
            ckpt.save(0)
        assert made.getvalue().count("committed as") == lines_there
        assert caplog.text.count("committed as") == lines_logged
        caplog.clear()
    monkeypatch.setattr(sys, "stderr", made := io.StringIO())
    for report, expected in ((True, 1), (False, 1)):
        with checkpointer(store, Loop(), report=report) as ckpt:
            ckpt.save(0)
        assert made.getvalue().count("committed as") == expected


def rows(text: str) -> list[str]:
    """What a terminal shows of a text: a carriage return goes back to the begin of the row, and what follows lies over
    what was there."""
    shown = []
    for line in text.split("\n"):
        row: list[str] = []
        for part in line.split("\r"):
            row[: len(part)] = part
        shown.append("".join(row).rstrip())
    return shown


def test_lines_do_not_tear_a_progress_bar(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from tqdm import tqdm

    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    with (
        checkpointer(store, Loop(), report=None) as ckpt,
        tqdm(total=5, desc="training", ncols=60, mininterval=0, file=sys.stderr) as bar,
    ):
        for step in range(5):
            ckpt.step(step)
            bar.update()
    found = [row for row in rows(screen.getvalue()) if row]
    lines = [row for row in found if "committed as" in row]
    assert len(lines) == 5
    assert all(row.startswith("castore: step ") and row.endswith(" s later") for row in lines)
    bars = [row for row in found if row not in lines]
    assert bars and all(row.startswith("training: ") and len(row) <= 60 for row in bars)
    assert "5/5" in bars[-1]


def test_the_share_that_commits_cost_is_known(store: Store) -> None:
    with checkpointer(store, Loop()) as ckpt:
        assert ckpt.overhead == 0
        for step in range(3):
            ckpt.step(step)
        assert 0 < ckpt.overhead <= 1


def test_commits_of_somebody_else_between_ours_are_told_of(store: Store) -> None:
    loop = Loop()
    lines: list[str] = []
    with checkpointer(store, loop, worker="thread", report=lines.append) as ckpt:
        ckpt.step(0)
        ckpt.step(1)
        ckpt.wait()
        assert not [line for line in lines if "somebody else" in line]
        other = store.commit({"x": 1})
        ckpt.step(2)
        ckpt.wait()
    told = [line for line in lines if "somebody else" in line]
    assert len(told) == 1
    assert f"to {other.id[:8]}" in told[0]
    assert store.show("main").parents == (other.id,)
