"""Who reads finds what it looks for, however often it is moved."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import castore
from castore.errors import LockTimeoutError
from castore.testing.states import equal_states
from tests import workers
from tests.processes import finish, start
from tests.samples import assert_sound, state

_before_open: list[Callable[[str], None]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _before_open:
        _before_open[-1](str(arguments[0]))


sys.addaudithook(_hear)


@contextlib.contextmanager
def before_each_open(work: Callable[[str], None]) -> Iterator[None]:
    """Call `work` with the name of each file that this process is about to open, but for those that it opens itself."""

    def once(name: str) -> None:
        _before_open.append(lambda _name: None)
        try:
            work(name)
        finally:
            _before_open.pop()

    _before_open.append(once)
    try:
        yield
    finally:
        _before_open.pop()


def test_a_record_that_moves_each_time_that_it_is_about_to_be_read_is_read(path: Path, impatient: None) -> None:
    with castore.open(path) as first, castore.open(path) as mover:
        commit = first.commit(state(1), branch="kept").id
        moved: list[str] = []

        def move(name: str) -> None:
            if Path(name).parent.parent == path / "packs":
                mover.commit({"number": len(moved)}, branch="other")
                mover.repack()
                moved.append(name)

        def move_if_nobody_minds(name: str) -> None:
            with contextlib.suppress(LockTimeoutError):  # the reader has had enough of it
                move(name)

        with castore.open(path) as reader, before_each_open(move_if_nobody_minds):
            assert equal_states(reader.load(commit), state(1))
        assert len(moved) >= 4
        assert_sound(mover)


def test_a_reader_follows_an_index_that_another_process_made_anew(path: Path) -> None:
    with castore.open(path) as reader:
        commit = reader.commit(state(1)).id
        finish([start(workers.rebuild_index, path)])
        reader.commit(state(2))
        finish([start(workers.rebuild_index, path)])
        finish([start(workers.repack, path, 1)])
        reader.repository.chunks.files.close()  # as when many others were read since
        assert equal_states(reader.load(commit), state(1))
        assert_sound(reader)
