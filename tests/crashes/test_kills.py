"""SIGKILL at random moments of commits, gc, repack, mirror and maintain: every acknowledged commit stays."""

from __future__ import annotations

from pathlib import Path

from tests.crashes.kills import kill
from tests.workers import ACTIONS


def test_two_hundred_kills_lose_nothing(memory: Path) -> None:
    toll = kill(memory, 200)
    assert toll.problems == []
    assert toll.kills == 200 and toll.acknowledged and set(ACTIONS) <= set(toll.struck)
