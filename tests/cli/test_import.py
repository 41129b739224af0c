"""castore import: what a torch.save loop left becomes a history."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.cli.shell import InProcess
from tests.cli.test_commands import sha256
from tests.cli.test_json import LISTED_KEYS
from tests.security.pickle_payloads import executing, in_zip

WriteRun = Callable[..., Path]
KEYS = {"name", "outcome", "reason", "step", "epoch", "time", "id", "raw_bytes", "new_bytes"}
BEGIN = 1_700_000_000


def weights(step: int, elements: int) -> dict[str, torch.Tensor]:
    start = torch.randn(elements, generator=torch.Generator().manual_seed(0))
    return {"w": start * (1 + 1e-6 * step), "b": torch.full((7,), float(step))}


@pytest.fixture
def run(store: InProcess) -> WriteRun:
    """Writes checkpoints into `old/`, of the steps given; the later the step, the later the file's time."""

    def write(*names: str, elements: int = 4096) -> Path:
        folder = store.directory / "old"
        folder.mkdir(exist_ok=True)
        for name in names:
            step = int("".join(filter(str.isdigit, name)))
            path = folder / name
            if name.endswith("/"):
                path.mkdir()
                (path / "config.json").write_text("{}")
                path = path / "model.safetensors"
            if path.suffix == ".safetensors":
                save_file(weights(step, elements), path)
            else:
                torch.save({"model": weights(step, elements)}, path)
            os.utime(path, (BEGIN + step, BEGIN + step))
            if name.endswith("/"):
                os.utime(folder / name / "config.json", (BEGIN, BEGIN))
        return folder

    return write


def test_checkpoints_become_commits_oldest_first_with_step_time_and_bytes(store: InProcess, run: WriteRun) -> None:
    folder = run("step_100.pt", "step_90.pth", "step_1000.ckpt", "step_95.bin", "step_97.safetensors")
    lines = store.process.ok("import", "old").splitlines()
    assert [line.split()[2] for line in lines[:-1]] == [
        *("step_90.pth:", "step_95.bin:", "step_97.safetensors:", "step_100.pt:", "step_1000.ckpt:")
    ]
    assert lines[-1].startswith("imported 5 checkpoints: ")
    commits = store.json("log")
    assert [commit["step"] for commit in commits] == [1000, 100, 97, 95, 90]
    assert commits[0]["message"] == "step_1000.ckpt"
    assert commits[0]["meta"] == {"imported-from": "step_1000.ckpt"}
    assert store.json("show", "main:step=90")["time"].startswith("2023-11-1")
    for name in ("step_100.pt", "step_90.pth", "step_95.bin", "step_1000.ckpt"):
        step = name.split("_")[1].split(".")[0]
        assert any(e["shape"] == [4096] for e in store.json("show", f"main:step={step}", "--tensors")["entries"])
        store.ok("checkout", f"main:step={step}", "-o", f"out-{name}")
        assert sha256(store.directory / f"out-{name}") == sha256(folder / name)
    store.ok("fsck", "--read-data")


def test_directories_come_back_as_they_were(store: InProcess, run: WriteRun) -> None:
    folder = run("checkpoint-500/", "checkpoint-1000/")
    record = store.json("import", "old", "--branch", "hf")
    assert [one["step"] for one in record["checkpoints"]] == [500, 1000]
    assert record["checkpoints"][0]["time"].startswith("2023-11-14T")
    store.ok("checkout", "hf~1", "-o", "out")
    assert sorted(path.name for path in (store.directory / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert sha256(store.directory / "out/model.safetensors") == sha256(folder / "checkpoint-500/model.safetensors")
    store.refused(5, "log", "main")


def test_checkpoints_are_deltas_to_the_one_before_whatever_their_names(store: InProcess, run: WriteRun) -> None:
    run("step_1.pt", "step_2.pt", "epoch=1-step=3.ckpt", elements=1 << 18)
    run("step_4.safetensors", "step_5.safetensors", elements=1 << 18)
    done = {one["step"]: one["new_bytes"] for one in store.json("import", "old")["checkpoints"] if one["step"]}
    assert done[1] > 800_000
    assert done[2] < done[1] / 3
    assert done[5] < done[1] / 3


def test_json_has_the_keys_of_the_manual_and_says_what_was_left_out(store: InProcess, run: WriteRun) -> None:
    folder = run("step_1.pt", "step_2.pt")
    (folder / "last.ckpt").symlink_to("step_2.pt")
    (folder / "best_step_2.pt").write_bytes((folder / "step_1.pt").read_bytes())
    (folder / "copy_step_1.pt").write_bytes((folder / "step_1.pt").read_bytes())
    (folder / "gone_step_9.pt").symlink_to("nowhere")
    (folder / "train.log").write_text("x")
    record = store.json("import", "old")
    assert set(record) == {"dry_run", "checkpoints"}
    assert set(record) | KEYS <= LISTED_KEYS
    assert all(set(one) == KEYS for one in record["checkpoints"])
    assert {one["name"]: one["reason"] for one in record["checkpoints"] if one["outcome"] == "left-out"} == {
        "last.ckpt": "a symlink to step_2.pt",
        "best_step_2.pt": "of step 2 too, as step_2.pt",
        "copy_step_1.pt": "the same bytes as step_1.pt",
        "gone_step_9.pt": "a symlink that leads nowhere",
        "train.log": "no checkpoint by its ending",
    }
    imported = [one["name"] for one in record["checkpoints"] if one["outcome"] == "imported"]
    assert imported == ["step_1.pt", "step_2.pt"]


def test_a_dry_run_says_what_would_be_and_commits_nothing(store: InProcess, run: WriteRun) -> None:
    folder = run("step_1.pt", "step_2.pt")
    (folder / "notes.txt").write_text("x")
    assert store.process.ok("import", "old", "--dry-run").splitlines() == [
        "left out notes.txt: no checkpoint by its ending",
        "would import step=1 step_1.pt",
        "would import step=2 step_2.pt",
        "would import 2 checkpoints",
    ]
    record = store.json("import", "old", "--dry-run")
    assert record["dry_run"] is True
    assert [one["id"] for one in record["checkpoints"]] == [None, None, None]
    store.refused(5, "log")


def test_an_import_that_failed_in_the_middle_continues_when_it_is_run_again(store: InProcess, run: WriteRun) -> None:
    folder = run("step_1.pt", "step_3.pt")
    (folder / "step_2").mkdir()
    os.mkfifo(folder / "step_2" / "pipe")
    done = store.process.run("import", "old")
    assert done.returncode == 8
    assert "step_2 could not be imported" in done.stderr and "again" in done.stderr and done.stderr.count("\n") == 1
    assert [commit["step"] for commit in store.json("log")] == [1]
    (folder / "step_2" / "pipe").unlink()
    torch.save({"model": weights(2, 4096)}, folder / "step_2" / "model.pt")
    lines = store.process.ok("import", "old").splitlines()
    assert lines[0] == "passed over step_1.pt: step 1 was imported from step_1.pt before"
    assert lines[-1].startswith("imported 2 checkpoints")
    assert [commit["step"] for commit in store.json("log")] == [3, 2, 1]
    last = store.process.ok("import", "old").splitlines()[-1]
    assert last == "imported 0 checkpoints: 0 B committed, 0 B added to the store"
    assert len(store.json("log")) == 3


def test_only_what_an_import_has_committed_is_passed_over(store: InProcess, run: WriteRun) -> None:
    run("step_1.pt")
    store.ok("commit", "old/step_1.pt", "--step", "1")
    store.ok("import", "old")
    store.ok("import", "old", "--branch", "other")
    assert len(store.json("log", "main")) == 2
    assert len(store.json("log", "other")) == 1


def test_epochs_are_kept(store: InProcess, run: WriteRun) -> None:
    run("ckpt_epoch_2.pth", "ckpt_epoch_12.pth")
    store.ok("import", "old")
    assert [(commit["step"], commit["meta"]["epoch"]) for commit in store.json("log")] == [(12, "12"), (2, "2")]


@pytest.mark.parametrize(
    ("names", "arguments", "named"),
    [
        ([], [], "empty"),
        (["notes.txt", "model.pt"], [], "no checkpoint found"),
        (["model_step5.pt", "optim_step5.pt"], [], "both of step 5"),
        (["run-7-500.pt"], [], "run-7-500.pt"),
        (["step_1.pt"], ["--pattern", "*.ckpt"], "does not match"),
        (["step_1.pt"], ["--pattern", "{step}{step}"], "pattern"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_nothing_is_committed(
    store: InProcess, names: list[str], arguments: list[str], named: str
) -> None:
    folder = store.directory / "old"
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(bytes([number]))
    assert named in store.process.refused(2, "import", "old", *arguments)
    store.refused(5, "log")


def test_a_directory_that_is_not_there_and_a_file_are_refused(store: InProcess, run: WriteRun) -> None:
    assert "nowhere" in store.refused(2, "import", "nowhere")
    run("step_1.pt")
    assert "old/step_1.pt" in store.refused(2, "import", "old/step_1.pt")


def test_nothing_in_a_checkpoint_is_executed(store: InProcess, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    attacks = executing(marker)
    (tmp_path / "old").mkdir()
    for step, payload in enumerate(attacks.values()):
        (tmp_path / "old" / f"step_{step}.ckpt").write_bytes(in_zip(payload))
    store.process.ok("import", "old")
    assert len(store.json("log")) == len(attacks)
    assert not marker.exists()
