from __future__ import annotations

from pathlib import Path

import pytest

from castore.state.files import scan

from .zip_attacks import attacks, honest


def test_the_honest_file_has_both_tensors(tmp_path: Path) -> None:
    path = tmp_path / "honest.pt"
    path.write_bytes(honest())
    assert [segment.path for segment in scan(path).segments if segment.kind == "tensor"] == [("0",), ("1",)]


@pytest.mark.parametrize("name", attacks())
def test_a_zip_that_lies_is_kept_as_a_plain_file_and_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / "attack.pt"
    data = attacks()[name]
    path.write_bytes(data)
    layout = scan(path)
    assert layout.format == "plain"
    assert layout.note.startswith("kept as a plain file: ")
    assert [(segment.offset, segment.nbytes) for segment in layout.segments] == [(0, len(data))]
