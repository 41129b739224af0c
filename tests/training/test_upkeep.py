"""Upkeep beside a training loop: started, never twice, ended with the loop; what fails is a line and nothing more."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

import castore
from castore import _fs
from castore.errors import StorageError, UsageError
from castore.maintenance.upkeep.state import LOCK, State
from castore.maintenance.upkeep.tasks import TASKS
from castore.monitoring.alerts import place_of
from castore.store import Store
from castore.testing import faults
from castore.training.upkeep import Upkeep
from tests.samples import assert_sound, flip, packs
from tests.training.small import EVERY, Loop, checkpointer, kill, open_store, steps, stop


class Clock:
    """A clock that stands still until it is set on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def children() -> list[int]:
    """The processes of this one that are at upkeep."""
    listed = [pid for task in Path("/proc/self/task").glob("*/children") for pid in map(int, task.read_text().split())]
    return [pid for pid in listed if b"\0maintain\0" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """That of a child; b"" of one that has ended."""
    while True:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = Path(f"/proc/{pid}/cmdline").read_bytes()
            if not found and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
                continue  # it is just being started, or ended
            return found
        return b""


def until_ended(upkeep: Upkeep) -> None:
    """Poll, as steps do, until the process is gone."""
    while upkeep.running:
        upkeep.poll()
        os.sched_yield()


def test_a_loop_runs_what_is_due_beside_itself(store: Store) -> None:
    loop = Loop()
    store.commit({"w": 0}, branch="side")
    ckpt = checkpointer(store, loop, maintain=True)
    step = 0
    while set(State.read(store.path).finished) != {task.name for task in TASKS}:
        loop.train()
        ckpt.step(step)
        step += 1
    ckpt.close()
    assert steps(store) == list(range(step))
    assert children() == []
    assert_sound(store)


def test_there_are_never_two_and_the_next_one_has_its_time(store: Store) -> None:
    clock, lines = Clock(), []
    upkeep = Upkeep(store, "1h", lines.append, clock)
    upkeep.poll()
    (first,) = children()
    stop(first)
    clock.now += 10_000  # the next one is long due
    upkeep.poll()
    assert children() == [first]
    os.kill(first, signal.SIGCONT)
    while children() == [first]:
        os.sched_yield()
    upkeep.poll()
    (second,) = children()
    until_ended(upkeep)
    clock.now += 3599
    upkeep.poll()
    assert not upkeep.running
    clock.now += 1
    upkeep.poll()
    assert upkeep.running and children() != [second]
    upkeep.close()
    assert children() == [] and lines == []


def test_closing_ends_it_and_nothing_is_lost(store: Store) -> None:
    loop, lines = Loop(), []
    ckpt = checkpointer(store, loop, maintain=True, report=lines.append)
    ckpt.step(0)
    assert len(children()) == 1
    ckpt.close()
    assert children() == []
    assert not any("upkeep" in line for line in lines)
    assert_sound(store)
    with _fs.alone(store.path / LOCK) as alone:
        assert alone


def test_a_process_that_is_killed_is_a_line_and_the_next_one_is_started(store: Store) -> None:
    clock, lines = Clock(), []
    upkeep = Upkeep(store, True, lines.append, clock)
    upkeep.poll()
    kill(children()[0])
    until_ended(upkeep)
    assert len(lines) == 1 and "upkeep of the store failed" in lines[0] and "-9" in lines[0]
    clock.now += 601
    upkeep.poll()
    until_ended(upkeep)
    upkeep.close()
    assert len(lines) == 1
    assert set(State.read(store.path).finished) == {task.name for task in TASKS}


def test_damage_and_failures_are_lines_and_the_loop_goes_on(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        file = store.path / "castore.toml"
        file.write_text(file.read_text() + '\n[scrub]\nwithin = "1d"\n')
        store.commit({"w": list(range(3000))})
        flip(packs(store)[0], 100)
    with castore.open(tmp_path) as store:
        lines: list[str] = []
        upkeep = Upkeep(store, True, lines.append)
        upkeep.poll()
        until_ended(upkeep)
        upkeep.close()
    assert len(lines) == 1 and "upkeep of the store failed" in lines[0] and "checksum" in lines[0], lines


def test_without_being_asked_for_nothing_is_started(store: Store) -> None:
    with checkpointer(store, Loop()) as ckpt:
        ckpt.step(0)
        assert children() == []
    with pytest.raises(UsageError, match="maintain takes a span of time"):
        checkpointer(store, Loop(), maintain="often")


def test_a_setting_of_castore_toml_that_cannot_be_meant_is_refused_before_the_first_step(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    file = tmp_path / ".castore" / "castore.toml"
    file.write_text(file.read_text() + '\n[maintain]\ngarbage = "1d"\n')
    with castore.open(tmp_path) as store, pytest.raises(UsageError, match="no setting 'garbage'"):
        checkpointer(store, Loop(), maintain=True)


@pytest.mark.parametrize("worker", ["process", "thread"])
def test_commits_of_a_loop_are_events_with_their_stall(store: Store, worker: str) -> None:
    loop = Loop()
    with castore.Checkpointer(store, policy=EVERY, worker=worker, report=False, **loop.objects) as ckpt:
        for step in range(3):
            ckpt.step(step)
    with castore.Checkpointer(store, policy=EVERY, worker=worker, report=False, **loop.objects) as ckpt:
        assert ckpt.resume() == 3
    found = list(store.repository.events.read())
    assert [(one.kind, one.facts.get("step"), one.facts.get("how")) for one in found] == [
        *(("commit", step, None) for step in range(3)),
        ("restore", None, "resume"),
    ]
    assert all(0 < one.facts["stall"] < 60 and one.facts["bytes"] > 0 for one in found[:3])


def test_a_failed_save_is_counted_and_told_of_beside_the_loop(tmp_path: Path) -> None:
    told = tmp_path / "told"
    os.mkfifo(told)
    listener = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(json.load(sys.stdin)))"
    open_store(tmp_path).close()
    file = tmp_path / ".castore" / "castore.toml"
    command = json.dumps([sys.executable, "-c", listener, str(told)])
    place = place_of(file.parent.stat())
    file.write_text(f'{file.read_text()}\n[alerts]\nplace = "{place}"\ncommand = {command}\n')
    with castore.open(tmp_path) as store:
        ckpt = checkpointer(store, Loop(), branch="exp")
        with faults.inject("sync"):
            ckpt.step(4)
            with pytest.raises(StorageError, match="Input/output error"):
                ckpt.wait()
        # The loop is back although nobody has read what it was told; now somebody does.
        one = json.loads(told.read_text())
        ckpt.close()
        assert store.repository.events.tally().counts["failure", "commit"] == 1
    assert (one["event"], one["branch"], one["step"]) == ("failed-save", "exp", 4)
    assert "Input/output error" in one["text"]
