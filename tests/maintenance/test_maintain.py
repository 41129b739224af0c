"""`castore maintain`, as cron runs it: what is due, within its budget, one at a time, whatever ended the run before."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import castore
from castore import _fs
from castore.errors import StorageError, UsageError
from castore.maintenance.upkeep.state import LOCK, NAME, State
from castore.maintenance.upkeep.tasks import EVERY
from castore.monitoring.alerts import place_of
from castore.store import Store
from castore.testing import faults
from tests.cli.shell import Shell
from tests.samples import assert_loads, assert_sound, flip, packs, state

# Writes the event that it is told of, and at which priority it runs, to the file that is its argument.
LISTENER = (
    "import json, os, sys; told = json.load(sys.stdin); told['nice'] = os.nice(0); "
    "open(sys.argv[1], 'a').write(json.dumps(told) + '\\n')"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path, create=True)


@pytest.fixture
def shell(store: Store) -> Shell:
    """Real processes, in the directory of the store."""
    return Shell(store.path.parent)


def configure(store: Store, text: str) -> Store:
    """Add to castore.toml; the store, opened with that."""
    file = store.path / "castore.toml"
    text = text.replace("[alerts]\n", f'[alerts]\nplace = "{place_of(store.path.stat())}"\n')
    file.write_text(f"{file.read_text()}\n{text}\n")
    store.close()
    return castore.open(store.path)


def listen(told: Path) -> str:
    return f"[alerts]\ncommand = {json.dumps([sys.executable, '-c', LISTENER, str(told)])}\n"


def heard(told: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def outcomes(record: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {task["name"]: task["outcome"] for task in record["tasks"]}


def test_what_is_due_is_run_and_then_is_not_due(store: Store, shell: Shell) -> None:
    store = configure(store, "[retention]\nkeep_last = 2")
    history = {store.commit(state(seed), step=seed).id: seed for seed in range(5)}
    assert outcomes(shell.json("maintain", "--dry-run")) == dict.fromkeys(EVERY, "due")
    assert not (store.path / NAME).exists()
    assert outcomes(shell.json("maintain")) == dict.fromkeys(EVERY, "done")
    assert len(store.drops()) == 3
    assert store.gc(dry_run=True).removed_chunks == 0
    assert_loads(store, dict(list(history.items())[-2:]))
    assert_sound(store)
    record = shell.json("maintain")
    assert set(outcomes(record).values()) == {"not-due"}
    assert all(3500 < task["due_in_seconds"] <= 7 * 86400 for task in record["tasks"])
    assert set(outcomes(shell.json("maintain", "--force", "--only", "gc,prune"))) == {"gc", "prune"}
    ran = [one.facts["task"] for one in store.repository.events.read() if one.kind == "task" and "done" in one.facts]
    assert ran[:6] == list(EVERY) == ["mirror", "prune", "repack", "gc", "verify", "scrub"]


def test_without_rules_nothing_is_dropped(store: Store) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(4)}
    report = store.maintain()
    assert report.exit_code == 0 and store.drops() == {}
    assert "no rules" in str(report.tasks[1].report)
    assert_loads(store, history)


def test_how_often_a_task_is_due_stands_in_castore_toml(store: Store) -> None:
    store = configure(store, '[maintain]\nprune = "never"\ngc = "2h"\n[scrub]\nwithin = "1d"')
    store.commit(state(1))
    runs = {run.name: run for run in store.maintain().tasks}
    assert runs["prune"].outcome == "not-due" and math.isinf(runs["prune"].next_s)
    assert runs["gc"].next_s == 7200
    assert runs["scrub"].report is not None and "the round is over" in runs["scrub"].report.summary
    assert {run.name: run.outcome for run in store.maintain(force=True).tasks}["prune"] == "done"
    held = State.read(store.path)
    held.finished["gc"] -= 7201
    held.write(store.path, store.repository.lock)
    assert [run.name for run in store.maintain().tasks if run.outcome != "not-due"] == ["gc"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[maintain]\nrepacking = "1d"',
            "no setting 'repacking'; there are: time, rate, mirror, prune, repack, gc, verify, scrub",
        ),
        ('[maintain]\ngc = "often"', "maintain: gc takes never, or a span of time"),
        ('[maintain]\nrate = "fast"', "maintain: rate takes a rate such as 50MB/s"),
        ('[maintain]\ntime = "0s"', "maintain: time takes a span of time above 0"),
        ('[scrub]\nevery = "1d"', "scrub: there is no setting 'every'; there are: within"),
        ("[alerts]\nno_commit = 5", "alerts: there is no setting 'no_commit'"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named_with_the_file(
    store: Store, shell: Shell, text: str, said: str
) -> None:
    configure(store, text)
    line = shell.refused(2, "maintain")
    assert said in line and "castore.toml" in line


def test_a_task_that_there_is_not_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="no task 'repair'; there are: mirror, prune, repack, gc, verify, scrub"):
        store.maintain(only=["repair"])


def test_a_second_process_says_so_and_leaves(store: Store, shell: Shell) -> None:
    store.commit(state(1))
    with _fs.alone(store.path / LOCK) as alone:
        assert alone
        assert "another process" in shell.ok("maintain")
        assert "another process" in shell.ok("scrub")
        assert shell.json("maintain") == {"dry_run": False, "busy": True, "warnings": [], "tasks": []}
        assert store.maintain().busy and store.scrub() is None
    assert not (store.path / NAME).exists()
    assert not shell.json("maintain")["busy"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_loses_nothing_and_the_next_goes_on(
    store: Store, shell: Shell, number: int, heeds_interrupts: None
) -> None:
    history = {store.commit(state(seed)).id: seed for seed in range(4)}
    process = shell.start("scrub", "--rate", "2kB/s")
    # It reads: before that, Python may lose a Ctrl-C in what its imports call.
    while not any(name.endswith(".pack") for name in open_files(process.pid)):
        assert process.poll() is None
        os.sched_yield()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert number == signal.SIGKILL or "interrupted" in err
    record = shell.json("scrub")
    assert record["finished"] and record["errors"] == []
    assert_loads(store, history)
    assert_sound(store)


def open_files(pid: int) -> set[str]:
    """The names of the files that a process has open."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(entry.readlink().name)
    return found


def test_a_task_whose_time_is_over_goes_on_at_the_next_run(store: Store) -> None:
    for seed in range(8):
        store.commit(state(seed))
    report = store.maintain(time_s=0.0)
    assert [run.outcome for run in report.tasks] == ["no-time"] * len(EVERY)
    store = configure(store, '[scrub]\nwithin = "1d"')
    shares = []
    while True:
        (run,) = store.maintain(time_s=0.05, rate=300_000, only=["scrub"]).tasks
        assert run.report is not None
        shares.append(run.outcome)
        if run.outcome == "done":
            break
        assert run.outcome == "unfinished" and run.next_s == 0
    assert len(shares) > 2


def test_a_task_that_fails_keeps_no_other_from_running_and_is_told_of(
    store: Store, shell: Shell, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    store = configure(store, f'[retention]\nkeep_best = "no-such-metric=min"\n{listen(told)}')
    store.commit(state(1))
    done = shell.run("maintain", "--json")
    assert done.returncode == 2
    assert outcomes(json.loads(done.stdout)) == {**dict.fromkeys(EVERY, "done"), "prune": "failed"}
    assert "prune failed" in done.stderr and "no-such-metric" in done.stderr
    assert store.drops() == {}
    assert outcomes(shell.json("maintain", "--dry-run")) == {**dict.fromkeys(EVERY, "not-due"), "prune": "due"}
    shell.run("maintain")
    assert [one["event"] for one in heard(told)] == ["failed-maintenance"]  # once a day
    assert store.repository.events.tally().counts["failure", "prune"] == 2


def test_damage_is_an_exit_code_an_alert_and_the_commits_that_it_affects(
    store: Store, shell: Shell, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    store = configure(store, f'[scrub]\nwithin = "1d"\n{listen(told)}')
    commit = store.commit(state(1))
    (path,) = packs(store)
    flip(path, 300)
    done = shell.run("maintain", "--only", "scrub")
    assert done.returncode == 9
    assert f"commits {commit.id[:12]}" in done.stdout
    (one,) = heard(told)
    assert (one["event"], one["commits"], one["found_by"]) == ("damage", [commit.id], "scrub")
    assert one["nice"] == 19  # as all that maintain runs
    assert shell.run("scrub").returncode == 9


def test_a_commit_that_does_not_verify_is_an_exit_code_and_an_alert_and_a_good_one_is_noted(
    store: Store, shell: Shell, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    store = configure(store, listen(told))
    bad, good = store.commit(state(1), branch="bad"), store.commit({"w": [1.5, "text"]}, branch="good")
    flip(next(path for path in packs(store) if path.stat().st_size > 5000), 300)
    done = shell.run("maintain", "--only", "verify", "--json")
    assert done.returncode == 9
    (line,) = json.loads(done.stdout)["tasks"][0]["unverified"]
    assert bad.id[:12] in line
    (one,) = heard(told)
    assert (one["event"], one["commit"]) == ("failed-verification", bad.id)
    assert store.verifications()[good.id].ok and not store.verifications()[bad.id].ok
    assert store.repository.events.tally().counts["failure", "verify"] == 1


def test_an_io_error_of_one_task_is_a_failure_of_that_task(store: Store) -> None:
    store.commit(state(1))
    with faults.inject("rename"):
        report = store.maintain(only=["scrub", "gc"])
    assert [run.outcome for run in report.tasks] == ["failed", "done"]
    assert isinstance(report.tasks[0].error, StorageError)
    assert report.exit_code == StorageError.exit_code


def test_after_a_clock_that_went_back_a_task_is_run_once_with_a_warning(store: Store) -> None:
    store.commit(state(1))
    held = State.read(store.path)
    held.finished = {**dict.fromkeys(EVERY, time.time()), "gc": time.time() + 1e7}
    held.write(store.path, store.repository.lock)
    report = store.maintain()
    assert [run.name for run in report.tasks if run.outcome == "done"] == ["gc"]
    assert len(report.warnings) == 1 and "gc was last done in the future" in report.warnings[0]
    report = store.maintain()
    assert {run.outcome for run in report.tasks} == {"not-due"} and report.warnings == ()


def test_a_rule_with_an_unknown_key_drops_nothing_and_is_named(store: Store) -> None:
    store = configure(store, "[retention]\nkeep_lost = 3")
    store.commit(state(1))
    report = store.maintain()
    assert {run.name: run.outcome for run in report.tasks} == {**dict.fromkeys(EVERY, "done"), "prune": "failed"}
    assert "'keep_lost'" in str(report.tasks[1].error) and report.exit_code == 2
    assert store.drops() == {}


@pytest.mark.parametrize("text", ["", "{", '{"finished": {"gc": "x"}}', "\0\xff"])
def test_without_its_file_everything_is_due(store: Store, text: str) -> None:
    store.maintain()
    (store.path / NAME).write_text(text)
    assert {run.outcome for run in store.maintain().tasks} == {"done"}


def test_a_run_that_commits_no_more_is_told_of_once(store: Store, shell: Shell, tmp_path: Path) -> None:
    told = tmp_path / "told"
    store = configure(store, f'{listen(told)}no_commit_for = "2h"')
    now = datetime.now(timezone.utc)
    store.commit(state(1), step=7, time=now - timedelta(hours=1))
    shell.ok("maintain")
    assert heard(told) == []
    old = store.commit(state(2), step=8, time=now - timedelta(hours=5))
    assert "no commit for 5 h" in shell.run("maintain").stderr
    shell.ok("metrics")
    shell.ok("maintain")
    (one,) = heard(told)
    assert (one["event"], one["commit"], one["step"]) == ("no-commit", old.id, 8)


def test_a_newest_commit_of_the_future_is_a_warning(store: Store) -> None:
    store = configure(store, '[alerts]\nno_commit_for = "2h"')
    store.commit(state(1), time=datetime.now(timezone.utc) + timedelta(days=3))
    assert "dated in the future" in store.maintain().warnings[0]


def test_a_budget_that_is_reached_is_told_of_once(store: Store, tmp_path: Path) -> None:
    told = tmp_path / "told"
    store = configure(store, f'[retention]\nmax_bytes = "10kB"\n{listen(told)}')
    store.commit(state(1, 30_000))
    assert "more than max_bytes = 10kB" in store.maintain().warnings[0]
    store.maintain()
    (one,) = heard(told)
    assert one["event"] == "budget" and int(str(one["stored_bytes"])) > 10_000 == one["max_bytes"]


def test_maintain_beside_a_training_that_commits(store: Store, shell: Shell) -> None:
    store = configure(store, '[retention]\nkeep_last = 3\n[scrub]\nwithin = "1d"')
    store.commit(state(0))
    processes = [shell.start("maintain", "--force", "--json") for _ in range(3)]
    history = {store.commit(state(seed)).id: seed for seed in range(1, 30)}
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert set(outcomes(json.loads(out)).values()) <= {"done"}
    kept = {commit: seed for commit, seed in history.items() if commit not in store.drops()}
    assert len(kept) >= 3
    assert_loads(store, kept)
    assert_sound(store)
