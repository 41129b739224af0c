"""What the commands do and print, to a person and to a pipe."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.cli.shell import InProcess

WriteCheckpoint = Callable[..., Path]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def terminal_output(shell: InProcess, stream: str, *arguments: str | Path, **how: object) -> str:
    """What a command writes to a terminal on stdout or stderr."""
    controller, terminal = pty.openpty()
    process = shell.process.start(*arguments, **{stream: terminal, **how})
    os.close(terminal)
    written = b""
    try:
        while piece := os.read(controller, 4096):
            written += piece
    except OSError as error:
        assert error.errno == errno.EIO  # how Linux says that the last writer is gone
    os.close(controller)
    process.communicate(timeout=300)
    assert process.returncode == 0, written
    return written.decode()


def test_init_makes_a_store_that_only_its_owner_can_enter(shell: InProcess) -> None:
    assert ".castore" in shell.ok("init", "deep/runs")
    mode = (shell.directory / "deep" / "runs" / ".castore").stat().st_mode
    assert stat.S_IMODE(mode) == 0o700


@pytest.mark.parametrize("name", ["xxh3-128", "blake3"])
def test_either_hash_keeps_a_file(shell: InProcess, write_checkpoint: WriteCheckpoint, name: str) -> None:
    shell.ok("init", "--hash", name)
    path = write_checkpoint()
    shell.ok("commit", path)
    shell.ok("checkout", "main", "-o", "out.pt")
    assert sha256(shell.directory / "out.pt") == sha256(path)


def test_the_store_is_found_upward_by_option_and_by_environment(history: InProcess) -> None:
    expected = history.ok("log")
    below = InProcess(history.directory / "a" / "b")
    below.directory.mkdir(parents=True)
    assert below.ok("log") == expected
    assert below.ok("-C", "../..", "log") == expected
    assert below.ok("-C", history.directory / ".castore", "log") == expected
    assert below.ok("log", env={"CASTORE_STORE": str(history.directory)}) == expected
    below.ok("init")
    assert below.ok("-C", history.directory, "log", env={"CASTORE_STORE": "."}) == expected


def test_every_kind_of_file_comes_back_byte_for_byte(
    store: InProcess, write_checkpoint: WriteCheckpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "nested").mkdir(parents=True)
    write_checkpoint("checkpoint/model.pt")
    save_file({"w": torch.randn(64, 64)}, folder / "nested" / "model.safetensors")
    (folder / "config.json").write_text('{"layers": 4}')
    (folder / "empty").write_bytes(b"")
    (folder / "noise.bin").write_bytes(os.urandom(300_000))
    store.ok("commit", "checkpoint", "-m", "a directory")
    files = {path.relative_to(folder): sha256(path) for path in folder.rglob("*") if path.is_file()}
    store.ok("checkout", "HEAD", "-o", "out")
    out = tmp_path / "out"
    assert {path.relative_to(out): sha256(path) for path in out.rglob("*") if path.is_file()} == files


def test_checkout_converts_to_pt_and_safetensors(history: InProcess, write_checkpoint: WriteCheckpoint) -> None:
    history.ok("checkout", "main", "-o", "new.pt", "--format", "pt")
    history.ok("checkout", "main", "-o", "new.safetensors", "--format", "safetensors")
    original = torch.load(history.directory / "model.pt", weights_only=True)["model"]
    converted = torch.load(history.directory / "new.pt", weights_only=True)["model"]
    assert all(converted[name].equal(tensor) for name, tensor in original.items())
    tensors = load_file(history.directory / "new.safetensors")
    assert sorted(name.rsplit(".", 1)[-1] for name in tensors) == sorted(original)


def test_checkout_of_an_old_commit_gives_the_old_tensors(history: InProcess) -> None:
    history.ok("checkout", "main:step=1", "-o", "old.pt")
    assert torch.load(history.directory / "old.pt", weights_only=True)["model"]["weight"].equal(
        torch.randn(4096, generator=torch.Generator().manual_seed(1))
    )


def test_log_prints_one_plain_line_for_each_commit(history: InProcess) -> None:
    lines = history.ok("log").splitlines()
    assert len(lines) == 3
    assert re.fullmatch(
        r"[0-9a-f]{12} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d \(HEAD -> main\) "
        r"step=3 commit 3 loss=0.333333 \[.* kB, \+.*B\]",
        lines[0],
    )
    assert "(tag: v1.0)" in lines[1]
    assert history.ok("log", "-n", "1").splitlines() == lines[:1]
    assert history.ok("log", "-n", "0") == ""
    assert history.ok("log", "main~1").splitlines() == [line.replace("(HEAD -> main) ", "") for line in lines[1:]]


def test_log_has_colours_on_a_terminal_unless_told_otherwise(history: InProcess) -> None:
    assert "\x1b[" in terminal_output(history, "stdout", "log")
    assert "\x1b[" not in terminal_output(history, "stdout", "log", env={"NO_COLOR": "1"})


def test_log_draws_where_branches_part(history: InProcess, write_checkpoint: WriteCheckpoint) -> None:
    history.ok("branch", "exp1", "main~1")
    history.ok("commit", write_checkpoint(seed=9), "--branch", "exp1", "-m", "aside")
    drawing = [
        re.split(r"[0-9a-f]{12}", line)[0].rstrip() for line in history.ok("log", "--all", "--graph").splitlines()
    ]
    assert drawing == ["*", "| *", "|/", "*", "*"]


def test_show_says_where_a_commit_came_from(history: InProcess) -> None:
    text = history.ok("show", "v1.0")
    commit = history.json("show", "v1.0")
    for shown in (commit["id"], commit["parents"][0], commit["author"], "commit 2", "0.5", "tag: v1.0", "torch"):
        assert shown in text
    assert "float32[4096]" in history.ok("show", "v1.0", "--tensors")
    assert "bias" not in history.ok("show", "v1.0", "--only", "*weight")


def test_diff_hides_what_did_not_change(history: InProcess) -> None:
    text = history.ok("diff", "main~1", "main")
    assert re.search(r"^changed +\S*weight +float32\[4096\] +1\.\d+ +\d\.\d+$", text, re.MULTILINE)
    assert "bias" not in text
    assert re.search(r"^unchanged +\S*bias", history.ok("diff", "main~1", "main", "--all"), re.MULTILINE)
    assert text.splitlines()[-1].startswith("tensors: ")


def test_branches_are_listed_with_the_current_one_marked(history: InProcess) -> None:
    history.ok("branch", "exp1", "main~1")
    assert re.fullmatch(r"  exp1 [0-9a-f]{12} commit 2\n\* main [0-9a-f]{12} commit 3\n", history.ok("branch"))
    history.ok("switch", "exp1")
    assert re.fullmatch(r"\* exp1 [0-9a-f]{12} commit 2\n  main [0-9a-f]{12} commit 3\n", history.ok("branch"))


def test_commit_goes_to_the_current_branch(history: InProcess, write_checkpoint: WriteCheckpoint) -> None:
    history.ok("switch", "-c", "exp1", "main~2")
    history.ok("commit", write_checkpoint(seed=7), "-m", "on exp1")
    assert [commit["message"] for commit in history.json("log")] == ["on exp1", "commit 1"]
    assert history.json("log", "main", "-n", "1")[0]["message"] == "commit 3"


def test_the_reflog_brings_a_moved_branch_back(history: InProcess) -> None:
    history.ok("branch", "-f", "exp1", "main")
    history.ok("branch", "-f", "exp1", "main~2")
    assert history.json("show", "exp1@{1}")["step"] == 3
    lines = history.ok("reflog", "exp1").splitlines()
    assert [line.split()[1] for line in lines] == ["exp1@{0}", "exp1@{1}"]
    assert history.ok("reflog", "show", "exp1").splitlines() == lines


def test_an_entry_of_the_reflog_that_is_young_enough_stays(history: InProcess) -> None:
    assert history.json("reflog", "expire", "--expire=30.days", "--all") == {"expired": 0}
    assert len(history.json("reflog")) == 3


def test_stats_tell_stored_from_raw(history: InProcess) -> None:
    text = history.ok("stats", "--commits")
    assert re.search(r"^commits +3$", text, re.MULTILINE)
    for name in ("raw", "unique", "stored", "deltas"):
        assert re.search(rf"^{name} +\S+ k?B", text, re.MULTILINE), name
    assert "commit 2" in text


def test_progress_shows_on_a_terminal_and_nowhere_else(store: InProcess, write_checkpoint: WriteCheckpoint) -> None:
    path = write_checkpoint(elements=1 << 20)
    assert "Storing" in terminal_output(store, "stderr", "commit", path)
    done = store.process.run("commit", write_checkpoint(elements=1 << 20, seed=1))
    assert done.returncode == 0
    assert "Storing" not in done.stdout + done.stderr


def test_python_and_the_shell_see_one_history(history: InProcess) -> None:
    import castore

    with castore.open(history.directory) as opened:
        assert [commit.id for commit in opened.log()] == [commit["id"] for commit in history.json("log")]
        opened.commit({"w": torch.ones(3)}, message="from Python", step=4)
    assert history.json("log", "-n", "1")[0]["message"] == "from Python"


def test_a_commit_in_haste_writes_what_is_new_as_it_is(history: InProcess, write_checkpoint: WriteCheckpoint) -> None:
    elements = 1 << 20
    path = write_checkpoint("model.pt", seed=4, elements=elements)
    in_haste, coded = (
        json.loads(history.ok("commit", path, "--branch", name, "--json", *how))
        for name, how in (("hasty", ["--fast"]), ("main", []))
    )
    assert in_haste["raw_bytes"] == coded["raw_bytes"]
    assert (
        in_haste["new_bytes"] > 4 * elements
    )  # all weights; what else is in the file, and the commit's record, are coded
    assert coded["new_bytes"] < 4096  # it is there already, and stays as it was written
    history.ok("checkout", "hasty", "-o", history.directory / "out.pt")
    assert sha256(history.directory / "out.pt") == sha256(path)
