"""What bad input gets: one line, the exit code that the manual promises, and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.shell import InProcess

WriteCheckpoint = Callable[..., Path]


def packs(shell: InProcess) -> list[Path]:
    return sorted((shell.directory / ".castore" / "packs").rglob("*.pack"))


def flip_bits_in_largest_pack(shell: InProcess) -> None:
    pack = max(packs(shell), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 0x10
    pack.chmod(0o600)
    pack.write_bytes(data)


@pytest.mark.parametrize("command", [["log"], ["show"], ["stats"], ["gc"], ["fsck"], ["branch"], ["reflog"]])
def test_a_directory_without_a_store_is_refused(shell: InProcess, command: list[str]) -> None:
    assert "castore init" in shell.refused(3, *command)
    assert list(shell.directory.iterdir()) == []


def test_a_path_that_is_not_a_store_is_refused_by_name(shell: InProcess, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert "elsewhere" in shell.refused(3, "-C", "elsewhere", "log")
    assert "nowhere" in shell.process.refused(3, "log", env={"CASTORE_STORE": "nowhere"})


def test_a_second_init_leaves_the_store_alone(history: InProcess) -> None:
    before = history.ok("log")
    history.refused(3, "init")
    assert history.ok("log") == before


def test_a_store_of_a_newer_format_is_refused(history: InProcess) -> None:
    settings = history.directory / ".castore" / "castore.toml"
    settings.write_text(re.sub(r"format_version = \d+", "format_version = 999", settings.read_text()))
    assert "999" in history.process.refused(4, "log")


def test_a_store_with_an_unknown_feature_is_refused_by_its_name(history: InProcess) -> None:
    settings = history.directory / ".castore" / "castore.toml"
    settings.write_text(settings.read_text().replace('"packs-2"', '"holograms"'))
    assert "holograms" in history.refused(4, "log")


@pytest.mark.parametrize(
    "rev", ["nothing", "main~7", "main@{40}", "main:step=9", "0000000000", "ma in", "main^2", "v1.0@{0}"]
)
@pytest.mark.parametrize("command", [["log"], ["branch", "exp1"], ["checkout", "-o", "out"]])
def test_a_revision_that_names_no_commit_is_refused(history: InProcess, command: list[str], rev: str) -> None:
    history.refused(5, *command, rev)
    assert not (history.directory / "out").exists()


def test_an_ambiguous_revision_is_refused_with_what_to_write_instead(history: InProcess) -> None:
    history.ok("branch", "both", "main~1")
    history.ok("tag", "both", "main")
    line = history.process.refused(5, "show", "both")
    assert "refs/heads/both" in line
    assert "refs/tags/both" in line


def test_history_of_an_empty_store_says_how_to_begin(store: InProcess) -> None:
    assert "castore commit" in store.process.refused(5, "log")


@pytest.mark.parametrize(
    "name", ["a..b", "a b", "-x", "a.lock", "/a", "a/", "a~1", "a^", "a:b", "@", "a@{1}", "..", "a//b", "HEAD"]
)
@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_a_name_that_is_no_valid_ref_is_refused(history: InProcess, kind: str, name: str) -> None:
    before = history.ok("log", "--all"), history.ok("branch"), history.ok("tag")
    history.refused(6, kind, "--", name)
    assert (history.ok("log", "--all"), history.ok("branch"), history.ok("tag")) == before


def test_a_name_that_is_taken_is_refused_unless_forced(history: InProcess) -> None:
    history.ok("branch", "exp1")
    history.refused(6, "branch", "exp1", "main~2")
    history.refused(6, "tag", "v1.0", "main~2")
    assert history.json("show", "exp1")["step"] == 3
    history.ok("branch", "-f", "exp1", "main~2")
    history.ok("tag", "-f", "v1.0", "main~2")
    assert history.json("show", "exp1")["step"] == history.json("show", "v1.0")["step"] == 1


def test_checkout_onto_an_existing_file_leaves_it_alone(history: InProcess) -> None:
    target = history.directory / "kept.pt"
    target.write_bytes(b"mine")
    assert "kept.pt" in history.process.refused(10, "checkout", "main", "-o", "kept.pt", "--format", "pt")
    assert target.read_bytes() == b"mine"
    history.ok("checkout", "main", "-o", "kept.pt", "--format", "pt", "--force")
    assert set(torch.load(target, weights_only=True)) == {"model"}


def test_checkout_into_a_directory_with_a_file_of_that_name_leaves_it_alone(history: InProcess) -> None:
    (history.directory / "out").mkdir()
    (history.directory / "out" / "model.pt").write_bytes(b"mine")
    history.refused(10, "checkout", "main", "-o", "out")
    assert (history.directory / "out" / "model.pt").read_bytes() == b"mine"


def test_a_truncated_pt_is_kept_as_a_plain_file_and_that_is_said(
    store: InProcess, write_checkpoint: WriteCheckpoint
) -> None:
    path = write_checkpoint()
    path.write_bytes(path.read_bytes()[:-100])
    original = path.read_bytes()
    done = store.process.run("commit", path)
    assert done.returncode == 0
    assert "model.pt" in done.stderr
    assert "plain" in done.stderr
    store.ok("checkout", "HEAD", "-o", "out.pt")
    assert (store.directory / "out.pt").read_bytes() == original


def test_a_foreign_pt_is_kept_as_a_plain_file_and_that_is_said(store: InProcess, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"not a checkpoint at all")
    done = store.process.run("commit", "model.pt")
    assert done.returncode == 0
    assert "model.pt" in done.stderr
    assert "plain" in done.stderr


def test_a_file_that_is_not_there_is_refused_and_nothing_is_committed(store: InProcess) -> None:
    assert "missing.pt" in store.refused(2, "commit", "missing.pt")
    store.refused(5, "log")


def test_a_flipped_bit_is_found_at_checkout_and_writes_nothing(history: InProcess) -> None:
    flip_bits_in_largest_pack(history)
    damaged = [
        rev for rev in ("main", "main~1", "main~2") if history.run("checkout", rev, "-o", f"out-{rev}").returncode
    ]
    assert damaged
    for rev in damaged:
        history.process.refused(9, "checkout", rev, "-o", f"again-{rev}")
        assert not (history.directory / f"again-{rev}").exists()


def test_a_flipped_bit_is_found_by_fsck_with_the_commits_it_affects(history: InProcess) -> None:
    flip_bits_in_largest_pack(history)
    done = history.process.run("fsck", "--read-data", "--json")
    assert done.returncode == 9
    assert done.stderr == ""
    text = history.run("fsck", "--read-data")
    assert text.returncode == 9
    assert "error: " in text.stdout


def test_a_full_disk_in_the_middle_of_a_commit_leaves_the_old_history(
    history: InProcess, write_checkpoint: WriteCheckpoint
) -> None:
    before = history.ok("log")
    big = write_checkpoint("big.pt", elements=1 << 20)

    def small_files_only() -> None:
        # The closest to a full disk that needs no privileges: writes beyond this offset fail.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    history.process.refused(11, "commit", big, preexec_fn=small_files_only)
    assert history.ok("log") == before
    history.ok("fsck", "--read-data")
    history.ok("commit", big)


def test_two_processes_that_commit_to_one_branch_at_once_lose_nothing(
    history: InProcess, write_checkpoint: WriteCheckpoint
) -> None:
    files = [write_checkpoint(f"{number}.pt", seed=number) for number in range(6)]
    running = [history.process.start("commit", path, "-m", path.name) for path in files]
    results = [(process.communicate(timeout=300), process.returncode) for process in running]
    committed = [path.name for path, (_, code) in zip(files, results, strict=True) if code == 0]
    for (_, err), code in results:
        assert (code, err) == (0, "") or (code == 7 and err.startswith("castore: ") and err.count("\n") == 1)
    messages = [commit["message"] for commit in history.json("log")]
    assert sorted(messages) == sorted([*committed, "commit 1", "commit 2", "commit 3"])
    assert committed
    history.ok("fsck", "--read-data")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["no-such-command"], "no-such-command"),
        (["log", "--no-such-option"], "--no-such-option"),
        (["log", "-n", "many"], "many"),
        (["commit"], "PATH"),
        (["commit", "model.pt", "--metric", "loss=low"], "loss"),
        (["commit", "model.pt", "--metric", "loss"], "K=V"),
        (["commit", "model.pt", "--meta", "=x"], "K=V"),
        (["commit", "model.pt", "--step", "1.5"], "1.5"),
        (["checkout", "main"], "--output"),
        (["checkout", "main", "-o", "x", "--format", "onnx"], "onnx"),
        (["diff", "main"], "B"),
        (["branch", "-d"], "branch"),
        (["branch", "-d", "x", "main"], "NAME"),
        (["tag", "-d"], "tag"),
        (["switch", "x", "main"], "--create"),
        (["reflog", "expire", "--all"], "--expire"),
        (["reflog", "expire", "--expire=now"], "--all"),
        (["reflog", "expire", "--expire=soon", "--all"], "soon"),
        (["init", "--hash", "md5"], "md5"),
    ],
)
def test_arguments_that_make_no_sense_are_named(history: InProcess, arguments: list[str], named: str) -> None:
    line = history.refused(2, *arguments)
    assert named in line
    assert "--help" in line


def test_deleting_a_branch_that_is_not_there_is_refused(history: InProcess) -> None:
    assert history.run("branch", "-d", "nothing").returncode in (5, 6)
    assert history.run("tag", "-d", "nothing").returncode in (5, 6)
    assert history.run("switch", "nothing").returncode in (5, 6)


def test_deleting_a_branch_with_commits_of_its_own_takes_a_capital_d(
    history: InProcess, write_checkpoint: WriteCheckpoint
) -> None:
    history.ok("commit", write_checkpoint(seed=9), "--branch", "exp1")
    assert "-D" in history.run("branch", "-d", "exp1").stderr
    history.ok("branch", "-D", "exp1")
    assert [branch["name"] for branch in history.json("branch")] == ["main"]


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_ends_quietly_with_130(history: InProcess) -> None:
    import fcntl

    lock = history.directory / ".castore" / "lock"
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        process = history.process.start("branch", "exp1")
        while process.poll() is None and not _has_open(process.pid, lock):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.strip().startswith("castore: interrupted")


def _has_open(pid: int, path: Path) -> bool:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed since it was listed
            if entry.readlink() == path:
                return True
    return False


def test_a_reader_that_goes_away_ends_it_quietly(history: InProcess) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = history.process.run("log", stdout=writer)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_traceback_is_shown_to_those_who_ask(shell: InProcess) -> None:
    assert "Traceback" in shell.process.run("log", env={"CASTORE_DEBUG": "1"}).stderr
