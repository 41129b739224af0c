"""tier and mirror as people and scripts use them, on real stores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from castore.errors import CorruptError, StorageError, UsageError
from tests.cli.shell import InProcess
from tests.cli.test_json import check
from tests.samples import flip

TABLES = """
[tiers.recovery]
exclude = ["logs"]
keep_last = 2

[tiers.archive]
every_steps = 40
directory = "disk2/copies"
"""
TIER = {
    *("name", "include", "exclude", "every_steps", "every_seconds", "rules", "max_depth", "directory", "states"),
    "waiting",
}


@pytest.fixture
def run(shell: InProcess) -> InProcess:
    """Six commits of files, of steps 0 to 50, every third of them archived."""
    shell.ok("init")
    config = shell.directory / ".castore" / "castore.toml"
    config.write_text(config.read_text() + TABLES)
    (shell.directory / "disk2").mkdir()
    out = shell.directory / "out"
    out.mkdir()
    (out / "logs").write_bytes(b"log" * 900)
    for number in range(6):
        torch.save({"model": torch.randn(400, generator=torch.Generator().manual_seed(number))}, out / "model.pt")
        tier = "recovery" if number % 3 else "archive"
        shell.ok("commit", "out", "--step", str(10 * number), "--tier", tier)
    return shell


def test_a_commit_says_what_its_tier_left_out(run: InProcess) -> None:
    done = run.run("commit", "out", "--tier", "recovery")
    assert done.stderr == "castore: note: tier recovery leaves out logs\n"
    assert run.json("show")["meta"] == {"left-out": "logs"}
    said = run.refused(UsageError.exit_code, "commit", "out", "--tier", "archiv")
    assert "no tier 'archiv'; castore.toml has: recovery, archive" in said


def test_the_tiers_are_listed_with_what_there_is_of_each(run: InProcess) -> None:
    listed = run.json("tier")
    assert [one["name"] for one in listed] == ["recovery", "archive"]
    for one in listed:
        check(one, TIER)
    assert [(one["states"], one["waiting"]) for one in listed] == [(4, None), (2, 2)]
    assert listed[0]["rules"] == ["--keep-last 2"] and listed[1]["directory"] == str(run.directory / "disk2" / "copies")
    run.ok("mirror")
    assert run.json("tier")[1]["waiting"] == 0
    said = run.ok("tier")
    assert "keeps all" in said and "40 steps" in said and "disk2/copies, 0 wait" in said


def test_a_commit_is_moved_and_says_where_it_is(run: InProcess) -> None:
    record = run.json("tier", "main~1")
    check(record, {"id", "tier", "committed_as", "moved", "copies"})
    assert (record["tier"], record["committed_as"], record["moved"], record["copies"]) == (
        "recovery",
        "recovery",
        None,
        [],
    )
    assert run.process.ok("tier", "main~1", "archive").endswith("is of tier archive\n")
    moved = run.json("tier", "main~1", "archive")
    assert (moved["tier"], moved["committed_as"]) == ("archive", "recovery") and moved["moved"]
    run.ok("mirror")
    assert run.json("tier", "main~1")["copies"] == [str(run.directory / "disk2" / "copies")]
    assert "from recovery" in run.ok("tier", "main~1")
    assert [one["tier"] for one in run.json("log")][1] == run.json("show", "main~1")["tier"] == "archive"
    assert "no tier" in run.refused(UsageError.exit_code, "tier", "main", "gold")


def test_why_and_prune_name_the_rule_of_the_tier(run: InProcess) -> None:
    run.ok("mirror")
    assert "keeps all (tier archive)" in run.ok("why", "main:step=30")
    assert "kept by none of --keep-last 2 (tier recovery)" in run.ok("why", "main:step=10")
    assert "--keep-last 2 (tier recovery)" in run.json("why", "main:step=40")["reasons"]
    run.ok("prune")
    assert {one["step"] for one in run.json("log") if one["state"] == "dropped"} == {10, 20}
    assert run.ok("prune", "--keep-every", "10", "--ignore-config").startswith("dropped 0 states")


def test_mirror_tells_what_it_copied_and_the_copies_open_by_themselves(run: InProcess) -> None:
    record = run.json("mirror")
    check(record, {"ok", "directories"})
    check(record["directories"][0], {"directory", "tiers", "copied", "new_bytes", "left", "dropped", "failed", "error"})
    assert record["ok"] and record["directories"][0]["copied"] == 2
    assert run.ok("mirror", "--seconds", "0").endswith("(archive): 0 copied, 0 B added\n")
    second = [one["step"] for one in run.json("-C", "disk2/copies", "log") if one["state"] == "present"]
    assert second == [30, 0]
    assert run.json("-C", "disk2/copies", "fsck", "--read-data")["ok"]
    before = (run.directory / "out" / "model.pt").read_bytes()
    run.ok("commit", "out", "--step", "60", "--tier", "archive")
    run.ok("mirror")
    shutil.rmtree(run.directory / ".castore" / "packs")
    shutil.rmtree(run.directory / ".castore" / "index")
    (run.directory / ".castore" / "packs").mkdir()
    done = run.process.run("checkout", "main", "-o", "back")
    assert done.returncode == 0 and "main is read from its copy in" in done.stderr
    assert (run.directory / "back" / "model.pt").read_bytes() == before


def test_a_directory_that_is_gone_is_named_with_the_code_of_the_error(run: InProcess, tmp_path: Path) -> None:
    run.ok("mirror")
    shutil.rmtree(tmp_path / "disk2")
    done = run.process.run("mirror")
    assert done.returncode == StorageError.exit_code
    assert done.stderr.startswith("castore: tier archive: ") and "is its disk mounted?" in done.stderr
    assert str(tmp_path / "disk2" / "copies") in done.stderr
    record = run.run("mirror", "--json")
    assert record.returncode == StorageError.exit_code and '"ok": false' in record.stdout
    assert run.json("log")[0]["state"] == "present"


def test_a_commit_that_cannot_be_copied_is_named_with_a_code_of_its_own(run: InProcess) -> None:
    commit = run.json("log")[2]["id"]
    for pack in (run.directory / ".castore" / "packs").glob("*/*.pack"):
        if bytes.fromhex(commit) in pack.read_bytes():
            flip(pack, pack.stat().st_size // 3)
    done = run.run("mirror")
    assert done.returncode == CorruptError.exit_code
    assert f"{commit[:12]} can't be copied: " in done.stderr and "1 copied" in done.stdout and "1 wait" in done.stdout


def test_without_a_table_there_are_three_and_nothing_to_copy(store: InProcess) -> None:
    assert [one["name"] for one in store.json("tier")] == ["recovery", "milestone", "archive"]
    assert store.ok("mirror") == "no tier names a directory\n"


def test_a_key_that_there_is_not_is_named_with_the_file(store: InProcess) -> None:
    config = store.directory / ".castore" / "castore.toml"
    config.write_text(config.read_text() + "[tiers.a]\nkeep_lats = 3\n")
    for command in (["tier"], ["mirror"], ["prune", "--keep-last", "1"]):
        said = store.refused(UsageError.exit_code, *command)
        assert "castore.toml: tiers.a: there is no key 'keep_lats'" in said
