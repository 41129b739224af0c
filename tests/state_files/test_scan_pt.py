from __future__ import annotations

import argparse
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castore.state.files import Layout, Segment, scan

from .conftest import assert_covers, raw, training_state


def saved(tmp_path: Path, state: object, **options: object) -> tuple[Path, Layout]:
    path = tmp_path / "state.pt"
    torch.save(state, path, **options)  # type: ignore[arg-type]
    layout = scan(path)
    assert_covers(layout, path.stat().st_size)
    return path, layout


def tensors(layout: Layout) -> dict[tuple[str, ...], Segment]:
    return {segment.path: segment for segment in layout.segments if segment.kind == "tensor"}


def test_every_tensor_of_a_training_state_is_found_with_its_path_dtype_shape_and_bytes(checkpoint: Path) -> None:
    layout = scan(checkpoint)
    data = checkpoint.read_bytes()
    assert_covers(layout, len(data))
    assert (layout.format, layout.note) == ("pt", "")
    found = tensors(layout)
    state = training_state()
    model = state["model"]
    assert isinstance(model, dict)
    for name, tensor in model.items():
        segment = found["model", name]
        assert (segment.dtype.name, segment.shape) == ("float32", tuple(tensor.shape))
        assert data[segment.offset : segment.offset + segment.nbytes] == raw(tensor)
    assert found["optimizer", "state", "0", "exp_avg"].shape == (9, 7)
    assert found["optimizer", "state", "3", "step"].shape == ()
    assert len(found) == 4 + 4 * 3


@pytest.mark.parametrize(
    "name",
    ["uint8", "int8", "bool", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "bfloat16",
     "float32", "float64", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"],
)  # fmt: skip
def test_every_dtype_is_recognised(tmp_path: Path, name: str) -> None:
    tensor = torch.arange(6, dtype=torch.float32).reshape(2, 3).to(getattr(torch, name))
    _, layout = saved(tmp_path, {"t": tensor})
    assert tensors(layout)["t",].dtype.name == name
    assert tensors(layout)["t",].shape == (2, 3)


def test_tied_weights_are_one_segment_with_their_shape(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(4, 5))
    _, layout = saved(tmp_path, {"embed": weight, "head": weight, "data": weight.data})
    assert {path: segment.shape for path, segment in tensors(layout).items()} == {("embed",): (4, 5)}


def test_views_of_one_storage_are_one_flat_segment(tmp_path: Path) -> None:
    base = torch.randn(4, 5)
    _, layout = saved(tmp_path, [base[1:], base.t(), base])
    assert {path: segment.shape for path, segment in tensors(layout).items()} == {("0",): (20,)}


@pytest.mark.parametrize("view", [torch.randn(4, 5).t(), torch.randn(9)[3:], torch.randn(3, 1).expand(3, 4)])
def test_a_view_that_is_not_its_whole_storage_in_order_is_flat(tmp_path: Path, view: torch.Tensor) -> None:
    _, layout = saved(tmp_path, {"v": view})
    numel = view.untyped_storage().nbytes() // 4
    assert tensors(layout)["v",].shape == (numel,)


def test_dims_of_one_may_have_any_stride(tmp_path: Path) -> None:
    tensor = torch.randn(6).as_strided((1, 6, 1), (77, 1, 5))
    _, layout = saved(tmp_path, {"v": tensor})
    assert tensors(layout)["v",].shape == (1, 6, 1)


def test_empty_tensors_have_no_segment(tmp_path: Path) -> None:
    _, layout = saved(tmp_path, {"none": torch.empty(0, 3), "some": torch.ones(1)})
    assert set(tensors(layout)) == {("some",)}


def test_tensors_in_objects_of_unknown_classes_are_found(tmp_path: Path) -> None:
    _, layout = saved(tmp_path, {"args": argparse.Namespace(mean=torch.ones(3), lr=0.1)})
    assert set(tensors(layout)) == {("args", "mean")}


def test_keys_are_written_as_in_states_from_python(tmp_path: Path) -> None:
    state = {0: torch.ones(1), (1, 2): torch.ones(2), None: torch.ones(3), True: torch.ones(4), 1.5: torch.ones(5)}
    _, layout = saved(tmp_path, state)
    assert [path[0] for path in tensors(layout)] == ["0", "(1,2)", "None", "True", "1.5"]


def test_a_bare_storage_and_a_state_that_shares_dicts_are_found(tmp_path: Path) -> None:
    shared: dict[str, object] = {"t": torch.ones(3)}
    shared["self"] = shared
    _, layout = saved(tmp_path, {"a": shared, "b": shared, "raw": torch.ones(2).untyped_storage()})
    assert {path: segment.dtype.name for path, segment in tensors(layout).items()} == {
        ("a", "t"): "float32",
        ("raw",): "uint8",
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_is_understood(tmp_path: Path, protocol: int) -> None:
    _, layout = saved(tmp_path, training_state(), pickle_protocol=protocol)
    assert len(tensors(layout)) == 16


def test_the_content_decides_and_not_the_suffix(tmp_path: Path, checkpoint: Path) -> None:
    other = checkpoint.rename(tmp_path / "weights.dat")
    assert scan(other).format == "pt"


def test_torchscript_archives_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)), path)  # type: ignore[no-untyped-call]
    layout = scan(path)
    assert_covers(layout, path.stat().st_size)
    assert sorted(segment.shape for segment in tensors(layout).values()) == [(2,), (2, 3)]


def plain_note(path: Path) -> str:
    layout = scan(path)
    assert_covers(layout, path.stat().st_size)
    assert layout.format == "plain"
    assert len(layout.segments) <= 1
    return layout.note


def test_a_legacy_file_is_plain_and_said(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save(training_state(), path, _use_new_zipfile_serialization=False)
    assert "before torch 1.6" in plain_note(path)


def test_a_file_cut_anywhere_is_plain_and_said(checkpoint: Path) -> None:
    data = checkpoint.read_bytes()
    for length in [*range(0, len(data), 97), len(data) - 1]:
        checkpoint.write_bytes(data[:length])
        assert plain_note(checkpoint).startswith("kept as a plain file: ")


def test_foreign_content_under_a_checkpoints_name_is_said(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"<html>not found</html>")
    assert plain_note(path) == "kept as a plain file: no zip file"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert plain_note(path) == "kept as a plain file: zip without data.pkl"
    assert plain_note(path.rename(tmp_path / "docs.zip")) == ""


def rewritten(source: Path, *, compress: bool = False, replace: dict[str, bytes] | None = None) -> None:
    """The same entries written by another zip program."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    data = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(data, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, (replace or {}).get(name.rpartition("/")[2], old.read(name)))
    source.write_bytes(data.getvalue())


def test_a_checkpoint_rewritten_by_another_zip_program_keeps_its_tensors(checkpoint: Path) -> None:
    rewritten(checkpoint)
    layout = scan(checkpoint)
    assert_covers(layout, checkpoint.stat().st_size)
    assert len(tensors(layout)) == 16


def test_a_compressed_checkpoint_is_plain(checkpoint: Path) -> None:
    rewritten(checkpoint, compress=True)
    assert "compressed" in plain_note(checkpoint)


def test_a_big_endian_checkpoint_is_plain(checkpoint: Path) -> None:
    rewritten(checkpoint, replace={"byteorder": b"big"})
    assert "little-endian" in plain_note(checkpoint)


def test_entries_beyond_4_gib_are_found_by_their_zip64_fields(tmp_path: Path) -> None:
    path = tmp_path / "big.pt"
    torch.save({"small": torch.arange(3.0), "end": torch.arange(5.0)}, path)
    data = bytearray(path.read_bytes())
    layout = scan(path)
    last = tensors(layout)["end",]
    hole = 5 << 30  # sparse: the file takes some kilobytes
    header = data.rindex(b"PK\x03\x04", 0, last.offset)
    central = data.index(b"PK\x01\x02")
    moved = bytearray()
    count = 0
    at = central
    while data[at : at + 4] == b"PK\x01\x02":
        fields = list(struct.unpack_from("<4s6H3I5H2I", data, at))
        name = data[at + 46 : at + 46 + fields[10]]
        old_extra = data[at + 46 + fields[10] : at + 46 + fields[10] + fields[11]]
        extra = bytes(old_extra)
        offset = fields[16]
        assert offset != 0xFFFFFFFF
        if offset >= header:
            extra, fields[16] = struct.pack("<2HQ", 1, 8, offset + hole), 0xFFFFFFFF
        at += 46 + fields[10] + fields[11] + fields[12]
        fields[11] = len(extra)
        moved += struct.pack("<4s6H3I5H2I", *fields) + name + extra
        count += 1
    start = central + hole
    moved += struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(moved), start)
    moved += struct.pack("<4sIQI", b"PK\x06\x07", 0, start + len(moved) - 56, 1)
    moved += struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with path.open("r+b") as file:
        file.seek(header)
        file.truncate()
        file.seek(header + hole)
        file.write(data[header:central] + moved)
    layout = scan(path)
    assert_covers(layout, path.stat().st_size)
    assert tensors(layout)["small",].offset < header
    assert tensors(layout)["end",].offset == last.offset + hole


@settings(max_examples=60)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=6), tail=st.booleans())
def test_flipped_bits_never_raise_and_the_segments_still_cover_the_file(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[float, int]], tail: bool
) -> None:
    path = tmp_path_factory.mktemp("flip") / "state.pt"
    torch.save({"model": {"w": torch.randn(3, 4), "b": torch.randn(3)}, "lr": 0.1}, path)
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\x01\x02") if tail else 0
    for where, bit in flips:
        data[first + int(where * (len(data) - first - 1))] ^= 1 << bit
    path.write_bytes(data)
    assert_covers(scan(path), len(data))


def test_finding_tensors_loads_neither_torch_nor_numpy(checkpoint: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from castore.state.files import scan, safe_tree;"
        "import castore.state.files.target, castore.chunks.content;"
        f"assert scan(Path({str(checkpoint)!r})).format == 'pt'; safe_tree(Path({str(checkpoint.parent)!r}));"
        "print({'torch', 'numpy', 'numba', 'pyfastcdc'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
