"""A resume warns of each difference that can change results, and of no other."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import castore
from castore.objects.provenance import Provenance
from castore.state.provenance.differences import differences, explaining
from castore.store import Store
from tests.provenance.test_commits import damage
from tests.provenance.test_recording import git
from tests.training.small import EVERY, Loop


@pytest.fixture(autouse=True)
def quick(one_thread: None) -> None:
    """One thread computes."""


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """Flags that a test sets are undone."""
    yield
    torch.use_deterministic_algorithms(False)


def resumed(store: Store, run: castore.Run, lr: float = 0.1, train: bool = False) -> list[str]:
    """Resume a run, with a commit more if it is to train; the warnings of that."""
    loop = Loop()
    loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=lr, momentum=0.9)
    with (
        castore.Checkpointer(store, policy=EVERY, worker="thread", report=False, run=run, **loop.objects) as ckpt,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        step = ckpt.resume()
        if train:
            loop.train()
            ckpt.step(step)
    return [str(one.message) for one in caught if one.category is castore.InexactResumeWarning]


def test_the_same_run_again_warns_of_nothing(store: Store) -> None:
    def run() -> castore.Run:
        return castore.Run(config={"lr": 0.1}, data="v1", code_directory=store.path)

    resumed(store, run(), train=True)
    torch.manual_seed(55)  # the states of the generators are restored
    os.environ["A_TOKEN_OF_SOMEBODY"] = "something"
    try:
        assert resumed(store, run()) == []
    finally:
        del os.environ["A_TOKEN_OF_SOMEBODY"]


def test_each_difference_that_can_change_results_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    source = tmp_path / "code" / "train.py"
    source.write_text("a = 1\n")
    git(source.parent, "init", "-q")
    git(source.parent, "add", "-A")
    git(source.parent, "commit", "-q", "-m", "first")
    then = castore.Run(config={"width": 8, "old": 1}, data="v1", seeds={"data": 1}, code_directory=source.parent)
    resumed(store, then, train=True)
    first = git(source.parent, "rev-parse", "HEAD")
    git(source.parent, "commit", "-q", "--allow-empty", "-m", "second")
    source.write_text("a = 2\n")
    torch.use_deterministic_algorithms(True)
    here = castore.Run(config={"width": 9}, data="v2", seeds={"data": 2}, code_directory=source.parent)
    found = "\n".join(resumed(store, here, lr=0.2))
    for text in (
        "config width is 9 here and was 8 then",
        "config old is not given here and was 1 then",
        "data version is v2 here and was v1 then",
        "seeds data is 2 here and was 1 then",
        "numerics deterministic_algorithms is True here and was False then",
        "hyperparameters SGD.lr is 0.2 here and was 0.1 then",
        f"the Git commit of the training code is {git(source.parent, 'rev-parse', 'HEAD')} here and was {first} then",
        "the training code has other uncommitted changes here than then",
    ):
        assert text in found
    assert len(found.split("\n")) == 8


def test_a_learning_rate_that_a_scheduler_changed_is_no_difference(store: Store) -> None:
    from castore.training.parts import hyperparameters

    loop = Loop()
    scheduler = torch.optim.lr_scheduler.ExponentialLR(loop.optimizer, gamma=0.5)
    before = hyperparameters(loop.objects)
    loop.train()
    scheduler.step()
    assert hyperparameters(loop.objects) == before
    assert before["SGD.lr"] == "0.1" and before["SGD.momentum"] == "0.9" and int(before["SGD.parameters"]) > 0


def test_other_packages_are_one_warning_that_names_them() -> None:
    from castore.training.resume import _text

    old = Provenance(
        {"packages": {"numpy": "1.0", "gone": "2", "castore": "1"}, "torch": {"version": "1", "build": "a"}}
    )
    new = Provenance(
        {"packages": {"numpy": "2.0", "torch": "2"}, "torch": {"version": "2", "build": "b"}, "code": {"diff": "x"}}
    )
    found = explaining(old, new)
    assert [(one.section, one.name) for one in found] == [
        ("packages", "gone"),
        ("packages", "numpy"),
        ("torch", "version"),
    ]
    assert _text(found[-1]) == "torch is 2 here and was 1 then: results may differ"


def test_what_one_side_could_not_find_is_no_difference() -> None:
    old = Provenance({"hardware": {"cpu": "a", "gpus": "H100"}, "config": {"a": "1"}, "code": {"commit": "x"}})
    new = Provenance({"hardware": {"cpu": "a"}, "config": {"b": "1"}})
    assert [one.name for one in explaining(old, new)] == ["a", "b"]


def test_what_says_who_and_where_does_not_matter() -> None:
    texts = {"system": {"host": "a"}, "command": {"argv": "x"}, "hardware": {"cores": "1"}, "data": {"manifest": "a"}}
    other = {section: {name: f"{text}!" for name, text in one.items()} for section, one in texts.items()}
    found = differences(Provenance(texts), Provenance(other))
    assert len(found) == 4 and not any(one.matters for one in found)


def test_a_run_resumes_though_what_produced_the_commit_is_damaged(store: Store) -> None:
    run = castore.Run(code_directory=store.path)
    resumed(store, run, train=True)
    damage(store, bytes.fromhex(str(store.show().provenance)))
    with castore.open(store.path) as again:
        (text,) = resumed(again, run)
    assert "can't be read, so what is different here is not known" in text


def test_a_commit_made_beside_the_loop_has_the_configuration_and_the_flags(store: Store, tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import sys, torch, castore\n"
        "torch.manual_seed(11); torch.use_deterministic_algorithms(True); torch.set_num_threads(1)\n"
        "model = torch.nn.Linear(2, 2)\n"
        "run = castore.Run(config={'width': 2})\n"
        "with castore.open(sys.argv[1]) as store, castore.Checkpointer(store, run=run, model=model) as ckpt:\n"
        "    ckpt.save(step=0); torch.use_deterministic_algorithms(False); ckpt.save(step=1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(castore.__file__).parents[1])}
    subprocess.run([sys.executable, str(program), str(store.path)], env=environment, check=True)
    made = store.provenance("main~1")
    assert made.get("config", "width") == "2" and made.get("seeds", "torch") == "11"
    assert made.get("numerics", "threads") == "1" and made.get("numerics", "deterministic_algorithms") == "True"
    assert str(program) in str(made.get("command", "argv"))
    (found,) = store.diff_provenance("main~1", "main")
    assert (found.name, found.old, found.new) == ("deterministic_algorithms", "True", "False")
