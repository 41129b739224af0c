from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from castore.state.environment import environment, git_commit


def test_it_is_small_and_plain() -> None:
    found = environment(["train.py"])
    assert all(type(key) is str and type(value) is str and value for key, value in found.items())
    assert {"python", "platform", "torch", "numpy", "argv"} <= set(found)
    assert sum(map(len, found.values())) < 8192


def test_secrets_do_not_reach_a_commit() -> None:
    argv = [
        "train.py",
        "--lr=1",
        "--hf-token",
        "s3cret",
        "--api_key=s3cret",
        "--password=s3cret",
        "WANDB_API_KEY=s3cret",
    ]
    argv += ["--db", "postgres://me:s3cret@host/db", "--tokenizer-dir", "/data"]
    text = environment(argv)["argv"]
    assert "s3cret" not in text
    assert "--lr=1" in text and "--hf-token ***" in text and "me:***@host" in text


def test_the_commit_of_the_training_code_is_read_from_git(tmp_path: Path) -> None:
    commit = "0123456789" * 4
    assert git_commit(tmp_path) == ""
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text(f"# pack-refs\n{commit} refs/heads/main\n")
    inner = tmp_path / "src"
    inner.mkdir()
    assert git_commit(inner) == commit
    (git / "refs" / "heads" / "main").write_text(commit[::-1] + "\n")
    assert git_commit(inner) == commit[::-1]
    assert environment([], inner)["git"] == commit[::-1]
    (git / "HEAD").write_text("ref: ../../secret\n")
    assert git_commit(inner) == ""


def test_it_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, castore.state.environment as e; e.environment(); print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
