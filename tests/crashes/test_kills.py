"""Death by a signal at random moments of commits, gc and repack: every acknowledged commit stays."""

from __future__ import annotations

from pathlib import Path

from tests.crashes.kills import kill


def test_two_hundred_kills_lose_nothing(memory: Path) -> None:
    assert kill(memory, 200) == []
