"""prune, why, pin and unpin as people and scripts use them, on real stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from castore.errors import DroppedError, UsageError
from tests.cli.shell import InProcess
from tests.cli.test_json import COMPONENT, GC, check

VERDICT = {"id", "step", "before", "state", "reasons", "rule", "components", "alone_bytes"}


@pytest.fixture(scope="module")
def run_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `run` copies: made once."""
    shell = InProcess(tmp_path_factory.mktemp("run"))
    shell.ok("init")
    for number in range(10):
        generator = torch.Generator().manual_seed(number)
        state = {"model": torch.randn(4000, generator=generator), "optimizer": torch.randn(8000, generator=generator)}
        torch.save(state, shell.directory / f"step{number}.pt")
        details = ("--step", str(10 * number), "--metric", f"loss={abs(number - 4)}")
        shell.ok("commit", f"step{number}.pt", "-m", f"commit {number}", *details)
    return shell.directory


@pytest.fixture
def run(run_template: Path, tmp_path: Path) -> InProcess:
    """Ten commits of a file each, of steps 0 to 90; the loss is lowest at step 40."""
    shutil.copytree(run_template, tmp_path, dirs_exist_ok=True)
    return InProcess(tmp_path)


def states(shell: InProcess) -> dict[int, str]:
    return {commit["step"]: commit["state"] for commit in shell.json("log")}


def test_rules_combine_and_history_stays(run: InProcess) -> None:
    before = run.json("log")
    size = run.json("stats")["stored_bytes"]
    run.ok("tag", "v1", "main~7")
    said = run.process.ok("prune", "--keep-last", "2", "--keep-every", "50", "--keep-best", "loss=min:1")
    assert "dropped 4 states" in said and "castore gc" in said
    assert states(run) == {
        step: "present" if step in (90, 80, 50, 0, 40, 20) else "dropped" for step in range(0, 100, 10)
    }
    after = run.json("log")
    assert [{**one, "state": "", "refs": []} for one in after] == [{**one, "state": "", "refs": []} for one in before]
    freed = run.json("gc")["freed_bytes"]
    assert 0.35 * size < freed < 0.45 * size
    for step in (90, 80, 50, 0, 40, 20):
        run.ok("checkout", f"main:step={step}", "-o", "out.pt", "--force")
        assert (run.directory / "out.pt").read_bytes() == (run.directory / f"step{step // 10}.pt").read_bytes()
    assert run.json("fsck", "--read-data")["ok"]
    told = run.refused(DroppedError.exit_code, "checkout", "main:step=30", "-o", "gone.pt")
    assert "(step 30) was dropped on" in told and "by --keep-last 2 --keep-every 50 --keep-best loss=min:1" in told
    assert "(step 20)" in told or "(step 40)" in told
    assert not (run.directory / "gone.pt").exists()


def test_a_dry_run_says_of_each_commit_why_and_what_it_holds_and_changes_nothing(run: InProcess) -> None:
    files = sorted(path for path in run.directory.rglob("*") if "index" not in path.parts)
    record = run.json("prune", "--keep-last", "2", "--keep-every", "50", "--dry-run")
    check(record, {"dry_run", "dropped", "partial", "freed_bytes", "warnings", "commits", "gc"})
    assert (record["dry_run"], record["dropped"], record["partial"], record["gc"]) == (True, 6, 0, None)
    for one in record["commits"]:
        check(one, VERDICT)
        assert (one["state"] == "dropped") == (not one["reasons"]) == (one["rule"] is not None)
        assert one["before"] == "present" and one["alone_bytes"] > 40_000
    assert record["commits"][1]["reasons"] == ["--keep-last 2"]
    assert record["freed_bytes"] >= sum(one["alone_bytes"] for one in record["commits"] if one["state"] == "dropped")
    assert sorted(path for path in run.directory.rglob("*") if "index" not in path.parts) == files
    said = run.ok("prune", "--keep-last", "2", "--dry-run")
    assert "step=80 commit 8 keep: --keep-last 2 [" in said and "step=70 commit 7 drop: kept by none of" in said
    assert set(states(run).values()) == {"present"}


def test_the_space_can_be_freed_at_once(run: InProcess) -> None:
    record = run.json("prune", "--keep-last", "1", "--gc")
    check(record["gc"], GC)
    assert record["freed_bytes"] == record["gc"]["freed_bytes"] > 0
    assert all(one["alone_bytes"] is None for one in record["commits"])
    assert "give one of them" in run.refused(UsageError.exit_code, "prune", "--keep-last", "1", "--gc", "--dry-run")


def test_components_of_files_in_a_directory(run: InProcess, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-7"
    folder.mkdir()
    for name in ("model", "optimizer"):
        torch.save({name: torch.randn(3000)}, folder / f"{name}.pt")
    run.ok("commit", folder, "-m", "folder", "--step", "7", "--branch", "folders")
    torch.save({"model": torch.randn(3000)}, folder / "model.pt")
    run.ok("commit", folder, "-m", "again", "--step", "8", "--branch", "folders")
    record = run.json("prune", "--drop-components", "optimizer.pt", "--gc")
    assert record["partial"] == 1 and record["dropped"] == 0
    assert [one["state"] for one in run.json("log", "folders")] == ["present", "partial"]
    shown = run.json("show", "folders~1")
    assert shown["dropped"]["components"] == ["optimizer.pt"]
    assert shown["dropped"]["rule"] == "--drop-components optimizer.pt"
    assert "partial (optimizer.pt)" in run.ok("show", "folders~1")
    run.ok("checkout", "folders~1", "-o", "part", "--only", "model.pt")
    told = run.refused(DroppedError.exit_code, "checkout", "folders~1", "-o", "all")
    assert "optimizer.pt" in told and "--only" in told
    assert run.json("fsck", "--read-data")["ok"]


def test_why(run: InProcess) -> None:
    record = run.json("why", "main:step=50", "--keep-every", "50")
    check(record, VERDICT | {"dropped", "warnings"})
    assert record["reasons"] == ["--keep-every 50"] and record["dropped"] is None and record["alone_bytes"] > 40_000
    assert "would drop it: kept by none of --keep-every 50" in run.ok("why", "main:step=40", "--keep-every", "50")
    assert "no rule drops whole states" in run.ok("why", "main:step=40")
    run.ok("prune", "--keep-every", "50")
    record = run.json("why", "main:step=40")
    check(record["dropped"], {"time", "rule", "components"})
    assert record["before"] == record["state"] == "dropped" and record["alone_bytes"] == 0
    assert "by --keep-every 50" in run.ok("why", "main:step=40")
    shown = run.json("show", "main:step=40")
    assert shown["state"] == "dropped" and shown["dropped"] == record["dropped"]
    check(shown["stats"]["total"], COMPONENT)
    assert run.ok("log").count(" dropped\n") == 7


def test_pins(run: InProcess) -> None:
    pinned = run.json("pin", "main:step=30", "-m", "for the paper")
    check(pinned, {"commit", "time", "reason"})
    assert run.json("pin") == [pinned]
    assert "for the paper" in run.ok("pin")
    assert run.json("show", "main:step=30")["pinned"] == pinned
    run.ok("prune", "--keep-last", "1")
    assert [step for step, state in states(run).items() if state == "present"] == [90, 30]
    assert "pinned: for the paper" in run.ok("why", "main:step=30")
    assert run.json("unpin", "main:step=30") == pinned
    assert "not pinned" in run.refused(5, "unpin", "main:step=30")
    run.refused(DroppedError.exit_code, "pin", "main:step=40")
    run.refused(UsageError.exit_code, "pin", "-m", "what?")


def test_options_add_to_the_rules_of_castore_toml_unless_these_are_ignored(run: InProcess) -> None:
    settings = run.directory / ".castore" / "castore.toml"
    settings.write_text(settings.read_text() + "\n[retention]\nkeep_every = 30\n")
    both = run.json("prune", "--keep-last", "2", "--dry-run")
    alone = run.json("prune", "--keep-last", "2", "--dry-run", "--ignore-config")
    assert [one["step"] for one in both["commits"] if one["state"] == "present"] == [90, 80, 60, 30, 0]
    assert [one["step"] for one in alone["commits"] if one["state"] == "present"] == [90, 80]
    assert run.json("prune")["dropped"] == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there are no rules"),
        (["--keep-last", "none"], "--keep-last takes a whole number"),
        (["--keep-best", "lss=min"], "no commit has the metric 'lss'; there are: loss"),
        (["--max-bytes", "much"], "--max-bytes takes a size"),
        (["--keep-lst", "3"], "--keep-lst"),
    ],
)
def test_what_makes_no_sense_is_refused_and_drops_nothing(run: InProcess, arguments: list[str], said: str) -> None:
    assert said in run.refused(UsageError.exit_code, "prune", *arguments)
    assert set(states(run).values()) == {"present"}


def test_an_unknown_key_of_castore_toml_is_named(run: InProcess) -> None:
    settings = run.directory / ".castore" / "castore.toml"
    settings.write_text(settings.read_text() + "\n[retention]\nkeep_last = 1\nkeep_bset = 'loss=min'\n")
    told = run.refused(UsageError.exit_code, "prune")
    assert "castore.toml" in told and "'keep_bset'" in told
    assert set(states(run).values()) == {"present"}


def test_a_component_that_nothing_has_is_a_note_and_drops_nothing(run: InProcess) -> None:
    done = run.run("prune", "--drop-components", "optimzer")
    assert done.returncode == 0 and "'optimzer'" in done.stderr
    assert set(states(run).values()) == {"present"}
