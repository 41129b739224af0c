from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from castore.errors import CorruptError, StateError
from castore.objects.nodes import Tensor
from castore.state.files.reader import SegmentFile, load_pt, load_safetensors

from .conftest import as_node, raw, training_state


def assert_same(found: object, expected: object) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert raw(found) == raw(expected)
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert isinstance(found, list)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def test_a_state_is_loaded_from_the_segments_of_its_file(checkpoint: Path) -> None:
    assert_same(load_pt(SegmentFile(*as_node(checkpoint))), training_state())


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    path = tmp_path / "tied.pt"
    weight = torch.nn.Parameter(torch.randn(3, 3))
    torch.save({"embed": weight, "head": weight}, path)
    state = load_pt(SegmentFile(*as_node(path)))
    assert state["embed"] is state["head"]


def test_a_legacy_file_is_loaded_from_its_plain_bytes(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(training_state(), path, _use_new_zipfile_serialization=False)
    assert_same(load_pt(SegmentFile(*as_node(path))), training_state())


def test_a_large_storage_is_read_in_few_large_pieces_and_once(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    state = {"a": torch.randn(5 << 20), "b": torch.randn(3 << 20), "c": torch.randn(3)}
    torch.save(state, path)
    node, read = as_node(path)
    reads: list[int] = []

    def counted(tensor: Tensor, first: int, nbytes: int) -> bytes:
        reads.append(nbytes)
        return read(tensor, first, nbytes)

    assert_same(load_pt(SegmentFile(node, counted)), state)
    assert sum(reads) < node.size + (1 << 20)
    assert max(reads) <= 8 << 20
    assert len([nbytes for nbytes in reads if nbytes > 1 << 20]) == 5


def test_small_tensors_are_not_read_one_by_one_from_the_blocks(tmp_path: Path) -> None:
    path = tmp_path / "many.pt"
    torch.save({str(index): torch.randn(256) for index in range(500)}, path)
    node, read = as_node(path)
    total = 0

    def counted(tensor: Tensor, first: int, nbytes: int) -> bytes:
        nonlocal total
        total += nbytes
        return read(tensor, first, nbytes)

    load_pt(SegmentFile(node, counted))
    assert total < 3 * node.size


@settings(max_examples=40)
@given(moves=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(-200_000, 1_500_000), st.integers(0, 300_000))))
def test_it_reads_and_seeks_like_the_file_itself(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("file") / "state.pt"
    torch.save([torch.arange(size) for size in (3, 50_000, 0, 1, 90_000, 7)], path)
    ours, real = SegmentFile(*as_node(path)), io.BytesIO(path.read_bytes())
    for whence, offset, nbytes in moves:
        try:
            expected = real.seek(offset, whence) if whence == 0 else real.seek(max(-real.tell(), offset), whence)
        except ValueError:
            with pytest.raises(ValueError, match="before the start"):
                ours.seek(offset, whence)
            continue
        ours.seek(expected)
        assert ours.tell() == expected
        assert ours.read(nbytes) == real.read(nbytes)
    ours.seek(0)
    assert ours.read() == path.read_bytes()


def test_objects_that_weights_only_refuses_are_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "objects.pt"
    torch.save({"model": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(StateError, match=r"weights_only refuses; `castore checkout` gives the file back") as caught:
        load_pt(SegmentFile(*as_node(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(100)])
def test_what_torch_cannot_load_is_an_error_of_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "foreign.pt"
    path.write_bytes(data)
    with pytest.raises(StateError, match="castore checkout") as caught:
        load_pt(SegmentFile(*as_node(path)))
    assert "\n" not in str(caught.value)


def test_a_damaged_chunk_is_said_as_such_and_not_as_torchs_trouble(checkpoint: Path) -> None:
    node, read = as_node(checkpoint)

    def damaged(tensor: Tensor, first: int, nbytes: int) -> bytes:
        if tensor.kind == "tensor":
            raise CorruptError("chunk 42 is damaged")
        return read(tensor, first, nbytes)

    with pytest.raises(CorruptError, match="chunk 42 is damaged"):
        load_pt(SegmentFile(node, damaged))


def test_a_file_whose_segments_do_not_add_up_is_corrupt(checkpoint: Path) -> None:
    node, read = as_node(checkpoint)
    node.segments.pop()
    with pytest.raises(CorruptError, match="fsck"):
        SegmentFile(node, read)


def test_a_safetensors_file_gives_its_tensors_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = {
        "w": torch.randn(300, 500),
        "half": torch.randn(4, 2).to(torch.bfloat16),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "f8": torch.randn(5).to(torch.float8_e5m2),
        "complex": torch.randn(2, dtype=torch.complex64),
    }
    save_file(state, path, metadata={"format": "pt"})
    found = load_safetensors(*as_node(path))
    assert set(found) == set(state)
    for name, tensor in state.items():
        assert_same(found[name], tensor)
        found[name].add_(1) if name == "w" else None  # writable, and memory of its own


def test_a_committed_safetensors_file_with_a_wrong_header_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, path)
    node, _ = as_node(path)
    with pytest.raises(CorruptError, match="fsck"):
        load_safetensors(node, lambda tensor, first, nbytes: b"\xff" * nbytes)
