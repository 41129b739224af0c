"""A disk that is full or fails, at any operation: the history is as it was, or new, and the next attempt works."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from castore import _fs
from castore.errors import StorageError
from tests.crashes.refusals import REFUSED, refusals

ELSEWHERE = {
    "concurrent commits",
    "same state again",
    "commit during gc",
    "tier copy",
    "repair from copy",
    "second cut",
}  # tools/crash_explore --refusals


@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ELSEWHERE])
def test_any_operation_may_be_refused(name: str, memory: Path) -> None:
    assert [problem for problem in refusals(name, memory) if problem] == []


def test_a_castore_that_passed_over_a_failing_sync_would_be_found_out(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def passing_over(file: _fs.File) -> None:
        with contextlib.suppress(StorageError):
            sync(file)

    sync = _fs.File.sync
    monkeypatch.setattr(_fs.File, "sync", passing_over)
    assert any(refusals("switch", memory))
