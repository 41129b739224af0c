"""Files come back byte for byte; what they hold is loaded, compared and deduplicated as tensors."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import castore
from castore.errors import StateError, TargetExistsError, UsageError
from castore.store import Store
from castore.testing.states import equal_states
from tests.samples import LARGE, assert_sound


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return castore.open(tmp_path / "store", create=True)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights(seed: int, elements: int = 5000) -> dict[str, torch.Tensor]:
    start = torch.randn(elements, generator=torch.Generator().manual_seed(0))
    return {"w": start + seed * 1e-4, "b": torch.full((7,), float(seed))}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory as a training script leaves it."""
    root = tmp_path / "model"
    (root / "sub" / "deeper").mkdir(parents=True)
    torch.save(weights(1), root / "step1.pt")
    save_file(weights(2), root / "sub" / "model.safetensors")
    (root / "config.json").write_text('{"a": 1}')
    (root / "sub" / "deeper" / "empty").write_bytes(b"")
    (root / "big.bin").write_bytes(torch.randint(0, 256, (400_000,), dtype=torch.uint8).numpy().tobytes())
    return root


def names(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): digest(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_single_file_is_checked_out_as_it_was(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model / "step1.pt"])
    report = store.checkout("main", tmp_path / "out.pt")
    assert report.files == (tmp_path / "out.pt",)
    assert report.raw_bytes == (model / "step1.pt").stat().st_size
    assert digest(tmp_path / "out.pt") == digest(model / "step1.pt")
    (tmp_path / "there").mkdir()
    assert store.checkout("main", tmp_path / "there").files == (tmp_path / "there" / "step1.pt",)
    assert digest(tmp_path / "there" / "step1.pt") == digest(model / "step1.pt")
    assert equal_states(store.load(), weights(1))


def test_several_files_and_directories_come_back_below_the_target(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model / "step1.pt", model / "sub"])
    store.checkout("main", tmp_path / "out")
    assert names(tmp_path / "out") == {k: v for k, v in names(model).items() if k.startswith(("step1", "sub"))}
    loaded = store.load()
    assert set(loaded) == {"step1.pt", "sub/model.safetensors", "sub/deeper/empty"}
    assert equal_states(loaded["step1.pt"], weights(1))
    assert equal_states(dict(loaded["sub/model.safetensors"]), dict(load_file(model / "sub" / "model.safetensors")))
    assert loaded["sub/deeper/empty"] == b""


def test_a_directory_comes_back_as_its_content(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model])
    store.checkout("main", tmp_path / "out")
    assert names(tmp_path / "out") == names(model)
    assert_sound(store)


def test_a_file_in_several_chunks_comes_back(store: Store, tmp_path: Path) -> None:
    for step in range(3):
        torch.save(weights(step, LARGE), tmp_path / f"step{step}.pt")
        store.commit_files([tmp_path / f"step{step}.pt"], step=step)
    assert store.show("main").stats.total.delta_bytes > 0
    for step in range(3):
        store.checkout(f"main:step={step}", tmp_path / f"out{step}.pt")
        assert digest(tmp_path / f"out{step}.pt") == digest(tmp_path / f"step{step}.pt")
        assert equal_states(store.load(f"main:step={step}"), weights(step, LARGE))


def test_a_state_and_a_file_of_it_are_stored_once(store: Store, tmp_path: Path) -> None:
    store.commit(weights(1, LARGE))
    for name, write in (("m.pt", torch.save), ("m.safetensors", save_file)):
        write(weights(1, LARGE), tmp_path / name)
        store.commit_files([tmp_path / name], branch=name.replace(".", "-"))
        assert store.last_new_bytes < 16 << 10


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ("step1.pt", {"step1.pt"}),
        ("*.pt", {"step1.pt"}),
        ("sub", {"sub/model.safetensors", "sub/deeper/empty"}),
        ("sub/", {"sub/model.safetensors", "sub/deeper/empty"}),
        (["config.json", "sub/deeper"], {"config.json", "sub/deeper/empty"}),
    ],
)
def test_only_names_files_of_a_commit(store: Store, model: Path, tmp_path: Path, only: Any, wanted: set[str]) -> None:
    store.commit_files([model])
    assert set(store.load(only=only)) == wanted
    store.checkout("main", tmp_path / "out", only=only)
    assert set(names(tmp_path / "out")) == wanted


def test_only_goes_on_inside_a_file(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model])
    assert equal_states(store.load(only="step1.pt.w"), {"step1.pt": {"w": weights(1)["w"]}})
    store.commit_files([model / "step1.pt"], branch="one")
    assert equal_states(store.load("one", only="b"), {"b": weights(1)["b"]})
    with pytest.raises(StateError):
        store.load(only="nothing")
    with pytest.raises(StateError):
        store.load("one", only="nothing")


def test_a_target_that_exists_is_refused_unless_it_is_forced(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model / "step1.pt"])
    store.commit(weights(3), branch="state")
    out = tmp_path / "out.pt"
    out.write_bytes(b"precious")
    for rev in ("main", "state"):
        with pytest.raises(TargetExistsError):
            store.checkout(rev, out)
    assert out.read_bytes() == b"precious"
    store.checkout("main", out, force=True)
    assert digest(out) == digest(model / "step1.pt")
    store.commit_files([model], branch="all")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(TargetExistsError):
        store.checkout("all", tmp_path / "tree")
    assert (tmp_path / "tree" / "sub" / "model.safetensors").read_bytes() == b"precious"
    store.checkout("all", tmp_path / "tree", force=True)
    assert names(tmp_path / "tree") == names(model)


def test_a_state_is_checked_out_as_either_format(store: Store, tmp_path: Path) -> None:
    value = {"model": weights(1), "step": 3, "tied": (tied := torch.ones(3)), "again": tied}
    store.commit(value)
    assert store.checkout("main", tmp_path / "out.pt", format="pt").dropped == ()
    assert equal_states(torch.load(tmp_path / "out.pt", weights_only=True), value)
    report = store.checkout("main", tmp_path / "out.safetensors", only=["model", "step"])
    assert report.dropped == ("step",)
    assert equal_states(
        load_file(tmp_path / "out.safetensors"), {"model.b": weights(1)["b"], "model.w": weights(1)["w"]}
    )
    store.checkout("main", tmp_path / "part.pt", only="model.w")
    assert equal_states(torch.load(tmp_path / "part.pt"), {"model": {"w": weights(1)["w"]}})
    with pytest.raises(UsageError):
        store.checkout("main", tmp_path / "out.onnx", format="onnx")


def test_a_committed_file_is_converted_to_the_other_format(store: Store, model: Path, tmp_path: Path) -> None:
    store.commit_files([model / "step1.pt"])
    store.checkout("main", tmp_path / "out.safetensors", format="safetensors")
    assert equal_states(load_file(tmp_path / "out.safetensors"), dict(sorted(weights(1).items())))


def test_what_cannot_be_committed_is_refused_with_nothing_written(store: Store, model: Path, tmp_path: Path) -> None:
    with pytest.raises(castore.errors.CastoreError, match="missing"):
        store.commit_files([tmp_path / "missing.pt"])
    with pytest.raises(UsageError, match=r"config\.json"):
        store.commit_files([model / "config.json", Path(tmp_path / "model" / ".." / "model" / "config.json")])
    assert store.branches() == {}
    assert list((store.path / "incoming").iterdir()) == []


def test_a_file_that_changes_while_it_is_committed_is_refused(store: Store, model: Path) -> None:
    class Touch(castore.progress.Silent):
        def finish(self) -> None:
            with (model / "config.json").open("a") as file:
                file.write("more")

    with castore.open(store.path, progress=Touch()) as other, pytest.raises(StateError, match=r"config\.json"):
        other.commit_files([model])
    assert store.branches() == {}


def test_a_foreign_or_cut_checkpoint_is_kept_as_a_plain_file_and_said(
    store: Store, model: Path, tmp_path: Path
) -> None:
    notes: list[str] = []

    class Listening(castore.progress.Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    cut = tmp_path / "cut.pt"
    cut.write_bytes((model / "step1.pt").read_bytes()[:-100])
    with castore.open(store.path, progress=Listening()) as other:
        other.commit_files([cut])
        assert any("plain file" in note for note in notes)
        other.checkout("main", tmp_path / "out.pt")
        assert digest(tmp_path / "out.pt") == digest(cut)
        assert other.load() == cut.read_bytes()
