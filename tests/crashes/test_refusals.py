"""A disk that is full or fails, at any operation: the history is as it was, or new, and the next attempt works."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crashes.refusals import REFUSED, refusals

ELSEWHERE = {
    "concurrent commits",
    "same state again",
    "commit during gc",
    "tier copy",
    "second cut",
}  # tools/crash_explore --refusals


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ELSEWHERE])
def test_any_operation_may_be_refused(name: str, memory: Path) -> None:
    assert [problem for problem in refusals(name, memory) if problem] == []
