from __future__ import annotations

import argparse
import json
import resource
import signal
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from castore.errors import StateError, StorageError, TargetExistsError, UnsafePathError
from castore.state.files import scan
from castore.state.files.export import write_pt, write_safetensors

from .conftest import training_state
from .test_reading_back import assert_same


def test_a_pt_is_what_torch_loads(tmp_path: Path) -> None:
    write_pt(training_state(), tmp_path / "out.pt")
    assert_same(torch.load(tmp_path / "out.pt", weights_only=True), training_state())
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.pt"]


def test_a_state_that_torch_cannot_save_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"torch\.save says") as caught:
        write_pt({"f": lambda: 0}, tmp_path / "out.pt")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_pt, write_safetensors])
def test_an_existing_file_is_kept_unless_forced(tmp_path: Path, write: object) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"mine")
    with pytest.raises(TargetExistsError, match="exists"):
        write({"w": torch.ones(1)}, path)  # type: ignore[operator]
    assert path.read_bytes() == b"mine"
    write({"w": torch.ones(1)}, path, force=True)  # type: ignore[operator]
    assert scan(path).format != "plain"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_pt, write_safetensors])
def test_nothing_is_written_through_a_symlink(tmp_path: Path, write: object) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePathError, match="symlink"):
        write({"w": torch.ones(1)}, tmp_path / "out", force=True)  # type: ignore[operator]
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("write", [write_pt, write_safetensors])
def test_a_missing_directory_is_said(tmp_path: Path, write: object) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        write({"w": torch.ones(1)}, tmp_path / "no" / "out")  # type: ignore[operator]


@pytest.mark.parametrize("write", [write_pt, write_safetensors])
def test_a_file_size_limit_is_a_storage_error_and_leaves_nothing(tmp_path: Path, write: object) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*out"):
            write({"w": torch.ones(1 << 20)}, tmp_path / "out")  # type: ignore[operator]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


NESTED = {
    "model": OrderedDict(w=torch.randn(3, 4), b=torch.randn(3).to(torch.bfloat16)),
    "views": [torch.randn(4, 5).t(), torch.randn(6)[::2], torch.randn(2, dtype=torch.complex64).conj()],
    "scalar": torch.tensor(3),
    "empty": torch.empty(2, 0),
    "flags": torch.tensor([True, False]),
    "f8": torch.randn(3).to(torch.float8_e4m3fn),
    "array": np.arange(4, dtype=np.int16).reshape(2, 2),
    "frozen": torch.nn.Parameter(torch.ones(2)),
    "lr": 0.1,
    "args": argparse.Namespace(),
}


def test_a_safetensors_file_is_what_its_library_loads(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    dropped = write_safetensors(NESTED, path)
    assert dropped == ["lr", "args"]
    found = load_file(path)
    views = NESTED["views"]
    assert isinstance(views, list)
    assert torch.equal(found["views.0"], views[0])
    assert torch.equal(found["views.1"], views[1])
    assert torch.equal(found["views.2"], views[2].resolve_conj())
    assert torch.equal(found["array"], torch.tensor([[0, 1], [2, 3]], dtype=torch.int16))
    assert found["scalar"].shape == ()
    assert found["empty"].shape == (2, 0)
    assert set(found) == {
        "model.w", "model.b", "views.0", "views.1", "views.2", "scalar", "empty", "flags", "f8", "array", "frozen",
    }  # fmt: skip
    assert scan(path).format == "safetensors"


def test_the_bytes_are_those_that_the_library_writes(tmp_path: Path) -> None:
    state = {f"layer.{i}": torch.randn(i + 1).to(dtype) for i in range(5) for dtype in (torch.float32, torch.int8)}
    state |= {"b": torch.randn(3, dtype=torch.float64), "a": torch.randn(2).to(torch.float16)}
    write_safetensors(state, tmp_path / "ours")
    save_file(state, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tied_tensors_are_written_under_each_name(tmp_path: Path) -> None:
    tied = torch.randn(3)
    write_safetensors({"a": tied, "b": tied}, tmp_path / "out")
    assert torch.equal(load_file(tmp_path / "out")["b"], tied)


def test_data_starts_at_a_multiple_of_eight(tmp_path: Path) -> None:
    for name in ("a", "ab", "abc", "é"):
        path = tmp_path / name
        write_safetensors({name: torch.ones(1)}, path)
        (header_bytes,) = struct.unpack("<Q", path.read_bytes()[:8])
        assert header_bytes % 8 == 0
        assert list(json.loads(path.read_bytes()[8 : 8 + header_bytes])) == [name]


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"lr": 0.1, "step": 3}, "no tensors; its values are 'lr', 'step'"),
        ({}, "no tensors"),
        ({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, "'a.b' is taken"),
        ({"__metadata__": torch.ones(1)}, "__metadata__"),
        ({"z": torch.ones(1, dtype=torch.complex128)}, "no dtype complex128, which 'z' has"),
        ({"s": torch.eye(2).to_sparse()}, "dense tensors only, and 's'"),
        ({"m": torch.empty(2, device="meta")}, "dense tensors only, and 'm'"),
    ],
)
def test_what_safetensors_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, state: dict[str, object], why: str
) -> None:
    with pytest.raises(StateError, match=why):
        write_safetensors(state, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_contains_itself_is_refused(tmp_path: Path) -> None:
    state: dict[str, object] = {"w": torch.ones(1)}
    state["self"] = state
    with pytest.raises(StateError, match="contains itself"):
        write_safetensors(state, tmp_path / "out")
