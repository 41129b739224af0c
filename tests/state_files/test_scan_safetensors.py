from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from castore.state.files import scan

from .conftest import assert_covers, raw

TENSORS = {
    "layers.0.weight": torch.randn(3, 5),
    "half": torch.randn(4, dtype=torch.bfloat16),
    "flags": torch.tensor([True, False, True]),
    "scalar": torch.tensor(1.5, dtype=torch.float64),
    "empty": torch.empty(0, 2),
    "f8": torch.randn(7).to(torch.float8_e4m3fn),
    "complex": torch.randn(2, dtype=torch.complex64),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    return path


def test_every_tensor_is_found_under_its_name(model: Path) -> None:
    layout = scan(model)
    data = model.read_bytes()
    assert_covers(layout, len(data))
    assert (layout.format, layout.note) == ("safetensors", "")
    found = {segment.path: segment for segment in layout.segments if segment.kind == "tensor"}
    assert set(found) == {(name,) for name in TENSORS if name != "empty"}
    for (name,), segment in found.items():
        tensor = TENSORS[name]
        assert f"torch.{segment.dtype.name}" == str(tensor.dtype)
        assert segment.shape == tuple(tensor.shape)
        assert data[segment.offset : segment.offset + segment.nbytes] == raw(tensor)


def test_packed_4_bit_floats_have_the_shape_that_torch_gives_them(tmp_path: Path) -> None:
    path = write(tmp_path, {"t": entry("F4", [2, 8], 0, 8)}, bytes(8))
    (segment,) = (segment for segment in scan(path).segments if segment.kind == "tensor")
    assert (segment.dtype.name, segment.shape) == ("float4_e2m1fn_x2", (2, 4))


def test_a_file_cut_anywhere_is_plain_and_said(model: Path) -> None:
    data = model.read_bytes()
    for length in [*range(0, len(data), 23), len(data) - 1]:
        model.write_bytes(data[:length])
        layout = scan(model)
        assert_covers(layout, length)
        assert layout.format == "plain"
        assert layout.note


def entry(dtype: str, shape: object, start: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def write(tmp_path: Path, header: object, data: bytes = b"") -> Path:
    path = tmp_path / "model.safetensors"
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


LIES = {
    "overlap": {"a": entry("U8", [4], 0, 4), "b": entry("U8", [4], 2, 6)},
    "gap": {"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 6, 8)},
    "beyond the file": {"a": entry("U8", [9], 0, 9)},
    "less than the file": {"a": entry("U8", [7], 0, 7)},
    "size is not the shape's": {"a": entry("F32", [3], 0, 8)},
    "size overflows": {"a": entry("U8", [1 << 62, 1 << 62], 0, 8)},
    "negative dims": {"a": entry("U8", [-2, -4], 0, 8)},
    "negative offsets": {"a": entry("U8", [8], -8, 0)},
    "swapped offsets": {"a": entry("U8", [8], 8, 0)},
    "bool dims": {"a": entry("U8", [True, 8], 0, 8)},
    "float dims": {"a": entry("U8", [8.0], 0, 8)},
    "three offsets": {"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8, 8]}},
    "no offsets": {"a": {"dtype": "U8", "shape": [8]}},
    "unknown dtype": {"a": entry("F13", [8], 0, 8)},
    "dtype of another type": {"a": entry("U8", [8], 0, 8) | {"dtype": ["U8"]}},
    "no object": {"a": [1]},
    "a surrogate as name": {"\ud800": entry("U8", [8], 0, 8)},
    "odd 4-bit dims": {"a": entry("F4", [3], 0, 8)},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_header_that_lies_makes_a_plain_file(tmp_path: Path, lie: object) -> None:
    path = write(tmp_path, lie, bytes(8))
    layout = scan(path)
    assert_covers(layout, path.stat().st_size)
    assert layout.format == "plain"
    assert layout.note.startswith("kept as a plain file: ")


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' * 100_000,
        b"{" + b"[" * 200_000,
        b'{"a":{"dtype":"U8","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,1]}}',
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"{\xff\xfe}",
        b"{} []",
        b'{"a": NaN}',
    ],
    ids=["deep objects", "deep lists", "huge number", "a name twice", "no UTF-8", "two values", "NaN"],
)
def test_a_header_bomb_makes_a_plain_file(tmp_path: Path, header: bytes) -> None:
    assert scan(write(tmp_path, header, b"x")).format == "plain"


def test_a_header_longer_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 31) + b"{")
        file.truncate(1 << 32)
    assert scan(path).note == "kept as a plain file: header larger than the limit"


@settings(max_examples=100)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=5))
def test_flipped_bits_never_raise_and_the_segments_still_cover_the_file(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("flip") / "model.safetensors"
    save_file(TENSORS, path)
    data = bytearray(path.read_bytes())
    for where, bit in flips:
        data[where % len(data)] ^= 1 << bit
    path.write_bytes(data)
    assert_covers(scan(path), len(data))


@settings(max_examples=200)
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.pt", "a.safetensors", "a.bin", "a.txt"]))
def test_any_bytes_are_a_file(tmp_path_factory: pytest.TempPathFactory, data: bytes, name: str) -> None:
    path = tmp_path_factory.mktemp("any") / name
    path.write_bytes(data)
    layout = scan(path)
    assert_covers(layout, len(data))
