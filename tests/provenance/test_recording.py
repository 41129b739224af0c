"""What is recorded of a run: its code as real git has it, and never a secret."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import pytest

import castore
from castore import limits
from castore.errors import UsageError
from castore.objects.provenance import decode, encode
from castore.state.provenance import Run, machine, numerics
from castore.state.provenance.code import code
from castore.state.provenance.given import data_version, flattened
from castore.state.provenance.secrets import Masker

SECRET = "s3cret-value-1234"


def git(directory: Path, *arguments: str) -> str:
    who = ("-c", "user.name=ada", "-c", "user.email=ada@host", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(directory), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def work_tree(tmp_path: Path) -> Path:
    """A repository with one commit of train.py, and a directory in it."""
    directory = tmp_path / "project"
    (directory / "src").mkdir(parents=True)
    (directory / "train.py").write_text("lr = 0.1\n")
    git(directory, "init", "-q", "-b", "trunk")
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "first")
    return directory


def holds(run: Run, text: str) -> bool:
    """Whether a text is anywhere in what a run records."""
    return text.encode() in run.record().data


# Code


def test_a_clean_work_tree_has_its_commit_and_no_diff(work_tree: Path) -> None:
    head = git(work_tree, "rev-parse", "HEAD")
    assert code(work_tree / "src") == {"repository": "project", "branch": "trunk", "commit": head}


def test_changes_are_a_diff_that_can_be_applied_and_new_files_are_named(work_tree: Path) -> None:
    (work_tree / "train.py").write_text("lr = 0.2\n")
    (work_tree / "staged.py").write_text("x = 1\n")
    git(work_tree, "add", "staged.py")
    (work_tree / "new.py").write_text("y = 1\n")
    (work_tree / "notes.txt").write_text("no code\n")
    found = code(work_tree)
    assert found["untracked"] == "new.py"
    git(work_tree, "stash", "-q")
    subprocess.run(["git", "-C", str(work_tree), "apply"], input=found["diff"] + "\n", text=True, check=True)
    assert (work_tree / "train.py").read_text() == "lr = 0.2\n"
    assert (work_tree / "staged.py").read_text() == "x = 1\n"


def test_git_neither_writes_nor_runs_what_the_repository_configures(work_tree: Path) -> None:
    (work_tree / "train.py").write_text("lr = 0.3\n")
    ran = work_tree.parent / "ran"
    program = work_tree.parent / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    (work_tree / ".gitattributes").write_text("*.py diff=mine\n")
    for name in ("diff.external", "diff.mine.command", "diff.mine.textconv", "core.fsmonitor", "core.pager"):
        git(work_tree, "config", name, str(program))
    index = (work_tree / ".git" / "index").stat().st_mtime_ns
    assert "+lr = 0.3" in code(work_tree)["diff"]
    assert not ran.exists()
    assert (work_tree / ".git" / "index").stat().st_mtime_ns == index


def test_without_a_repository_commit_or_git_nothing_is_said(
    tmp_path: Path, work_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code(tmp_path) == {}
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert code(empty) == {"repository": "empty"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code(work_tree) == {}


def test_a_diff_that_is_too_long_is_cut_at_a_line_and_says_so(work_tree: Path) -> None:
    lines = [f"value_{number} = {number}" for number in range(30_000)]
    (work_tree / "train.py").write_text("\n".join(lines))
    run = Run(code_directory=work_tree)
    diff = run.record().provenance.sections["code"]["diff"]
    *kept, cut = diff.split("\n")
    assert cut.startswith("[cut: ") and cut.endswith(" more bytes]")
    assert kept[-1].removeprefix("+") in lines
    assert len(diff.encode()) <= limits.MAX_PROVENANCE_TEXT_BYTES
    assert decode(run.record().data, "it").sections["code"]["diff"] == diff


def test_the_code_is_that_of_the_program_wherever_it_is_started(work_tree: Path, tmp_path: Path) -> None:
    program = work_tree / "src" / "main.py"
    program.write_text("import castore; print(castore.Run().record().summary['git'])")
    environment = {**os.environ, "PYTHONPATH": str(Path(castore.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == git(work_tree, "rev-parse", "HEAD")


# Secrets


def test_secrets_in_arguments_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = [
        *("train.py", "--lr=1", "--hf-token", SECRET, f"--api_key={SECRET}", f"--password={SECRET}"),
        *(f"WANDB_API_KEY={SECRET}", "--db", "postgres://me:pw@host/db", "--tokenizer-dir", "/data", "--note", "a b"),
    ]
    monkeypatch.setattr(sys, "argv", argv)
    recorded = Run().record()
    for text in (recorded.summary["argv"], recorded.provenance.sections["command"]["argv"]):
        assert SECRET not in text and "me:***@host" in text
        assert "--lr=1" in text and "--hf-token ***" in text and "--tokenizer-dir /data" in text
        assert text.endswith("--note 'a b'")


def test_a_secret_of_a_variable_or_an_argument_is_masked_wherever_it_was_pasted(
    work_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "pasted-password-5678"
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setattr(sys, "argv", ["train.py", "--password", other, f"--url=https://h/?k={SECRET}"])
    (work_tree / "train.py").write_text(f"key = '{SECRET}'\npw = '{other}'\nlr = 7\n")
    run = Run(config={"url": f"https://host/{SECRET}"}, notes=f"with {other}", code_directory=work_tree)
    assert not holds(run, SECRET) and not holds(run, other)
    assert holds(run, "lr = 7")


def test_files_of_secrets_are_left_out_of_the_diff(work_tree: Path) -> None:
    for name in (".env", "deploy.key", "src/secrets.toml"):
        (work_tree / name).write_text("x")
    git(work_tree, "add", "-A")
    git(work_tree, "commit", "-q", "-m", "oops")
    for name in (".env", "deploy.key", "src/secrets.toml"):
        (work_tree / name).write_text(SECRET)
    (work_tree / "train.py").write_text("lr = 5\n")
    diff = code(work_tree)["diff"]
    assert SECRET not in diff and "lr = 5" in diff


def test_no_variable_is_recorded_but_those_that_change_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SETTING", "a-value-of-somebody")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run = Run(code_directory=tmp_path)
    assert not holds(run, "a-value-of-somebody")
    assert run.record().provenance.sections["numerics"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_short_values_of_variables_are_not_looked_for_elsewhere() -> None:
    masker = Masker({"AUTH": "1", "X_TOKEN": SECRET}, ["run", "--n", "1"])
    assert masker.arguments() == ["run", "--n", "1"]
    assert masker.text(f"1 {SECRET} 1") == "1 *** 1"


# Configuration


@dataclasses.dataclass
class Optimizer:
    lr: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)


def test_a_configuration_is_flat_text_whatever_it_is_made_of() -> None:
    config = {
        "optimizer": Optimizer(),
        "args": argparse.Namespace(epochs=3, resume=None),
        "layers": [{"width": 4}, {"width": 8}],
        "name": "big",
        "path": Path("/data"),
        "kind": int,
        3: True,
        "empty": {},
        "thing": object(),
    }
    found = flattened(config)
    assert found.pop("thing") == "<object object>"  # an address would differ in each process
    assert found == {
        "optimizer.lr": "0.1",
        "optimizer.betas": "(0.9, 0.95)",
        "args.epochs": "3",
        "args.resume": "None",
        "layers.0.width": "4",
        "layers.1.width": "8",
        "name": "big",
        "path": "/data",
        "kind": "builtins.int",
        "3": "True",
        "empty": "{}",
    }
    assert flattened(Optimizer()) == {"lr": "0.1", "betas": "(0.9, 0.95)"}


def test_secrets_of_a_configuration_are_masked_by_name_and_tokens_are_not_secrets() -> None:
    found = flattened(
        {"hf_token": "abc", "db": {"password": "abc"}, "pad_token": "<pad>", "eos_token_id": 2, "max_tokens": "9"}
    )
    assert found == {
        "hf_token": "***",
        "db.password": "***",
        "pad_token": "<pad>",
        "eos_token_id": "2",
        "max_tokens": "9",
    }


def test_what_is_no_configuration_is_refused() -> None:
    looped: dict[str, Any] = {}
    looped["self"] = looped
    for config, text in ((5, "not int"), ("lr=1", "not str"), ([1], "not list"), (looped, "nests deeper")):
        with pytest.raises(UsageError, match=text):
            Run(config=config)


def test_a_configuration_that_is_too_large_is_refused_by_its_section() -> None:
    run = Run(config={str(number): "x" * 200_000 for number in range(30)})
    with pytest.raises(UsageError, match="'config'"):
        run.record()


@pytest.mark.parametrize("text", ["x" * 2 * limits.MAX_PROVENANCE_TEXT_BYTES, "é" * limits.MAX_PROVENANCE_TEXT_BYTES])
def test_a_text_that_is_too_long_is_cut(text: str) -> None:
    from castore.objects.provenance import Provenance

    found = decode(encode(Provenance({"notes": {"notes": text}})), "it").sections["notes"]["notes"]
    kept, _, note = found.rpartition("\n[cut: ")
    assert text.startswith(kept) and len(found.encode()) <= limits.MAX_PROVENANCE_TEXT_BYTES
    assert int(note.removesuffix(" more bytes]")) == len(text.encode()) - len(kept.encode())


# Data


def test_data_is_a_version_or_the_hash_of_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.txt"
    manifest.write_bytes(b"a.bin 1\n" * 400_000)
    expected = {
        "manifest": str(manifest),
        "bytes": str(manifest.stat().st_size),
        "blake3": blake3.blake3(manifest.read_bytes()).hexdigest(),
    }
    for data in (manifest, str(manifest), lambda: manifest, lambda: str(manifest)):
        assert data_version(data) == expected
    for data in ("v3", "c4/en", lambda: "v3", "x" * 5000):
        assert data_version(data) == {"version": data() if callable(data) else data}


def test_data_that_is_no_file_is_refused(tmp_path: Path) -> None:
    bad: list[Any] = [tmp_path, str(tmp_path), tmp_path / "none.txt", 5, lambda: None]
    for data in bad:
        with pytest.raises(UsageError, match=r"manifest|not int|not NoneType"):
            data_version(data)


# The rest


def test_the_machine_is_described() -> None:
    made = Run(seeds={"sampler": 3}, notes={"tokens": "lower-cased"}).record().provenance.sections
    assert made["packages"]["numpy"] and made["packages"]["castore"] == castore.__version__
    assert made["python"]["version"] == sys.version.split()[0]
    assert made["system"]["user"] and made["system"]["host"]
    assert int(made["hardware"]["cores"]) > 0 and made["hardware"]["cpu"]
    assert made["seeds"]["sampler"] == "3"
    assert made["notes"] == {"tokens": "lower-cased"}
    assert made["distributed"]["world_size"] == "1"
    assert all(
        text and type(text) is str for section in (machine.system, machine.hardware) for text in section().values()
    )


def test_the_flags_are_those_of_the_moment(one_thread: None) -> None:
    import torch

    run = Run()
    before = run.record()
    assert run.record() is before
    assert before.provenance.sections["numerics"]["threads"] == "1"
    assert before.provenance.sections["torch"]["version"] == torch.__version__
    assert "CXX_FLAGS" in before.provenance.sections["torch"]["build"]
    torch.use_deterministic_algorithms(True)
    try:
        after = run.record()
    finally:
        torch.use_deterministic_algorithms(False)
    assert after.provenance.sections["numerics"]["deterministic_algorithms"] == "True"
    assert run.record().data == before.data
    torch.manual_seed(77)
    assert numerics.seeds()["torch"] == "77"


def test_the_world_size_of_a_launcher_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert numerics.distributed() == {"world_size": "8"}


def test_it_loads_neither_torch_nor_numpy() -> None:
    names = "{'torch', 'numpy', 'numba', 'blake3'} & set(sys.modules)"
    program = f"import sys, castore; castore.Run(config={{'a': 1}}).record(); print({names})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_page_lists_every_variable_and_section() -> None:
    from castore.state.provenance.differences import MATTERS

    page = (Path(__file__).parents[2] / "docs" / "reproducibility.md").read_text("utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert all(f"`{name}`" in page for name in numerics.VARIABLES)
    assert {row[0] for row in rows} >= {f"| `{section}`" for section in Run().record().provenance.sections}
    for section, names in MATTERS.items():
        (row,) = [row for row in rows if row[0] == f"| `{section}`"]
        assert row[2].startswith("yes") and all(f"`{name}`" in row[1] for name in names - {"*"}), section
