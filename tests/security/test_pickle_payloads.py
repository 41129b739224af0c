from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from castore.state.files import Layout, scan

from .pickle_payloads import executing, exhausting, in_zip, lying, tensor


def scanned(tmp_path: Path, data: bytes) -> Layout:
    path = tmp_path / "attack.pt"
    path.write_bytes(data)
    layout = scan(path)
    position = 0
    for segment in layout.segments:
        assert segment.offset == position
        position += segment.nbytes
    assert position == len(data)
    return layout


@pytest.mark.parametrize("name", executing(Path("/m")))
def test_nothing_of_a_checkpoint_is_executed(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "executed"
    scanned(tmp_path, in_zip(executing(marker)[name]))
    assert not marker.exists()


def test_a_payload_beside_a_tensor_does_not_hide_the_tensor(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    payload = executing(marker)["stack global"].removesuffix(b".")
    layout = scanned(tmp_path, in_zip(payload + tensor() + b"\x86."))
    assert [segment.path for segment in layout.segments if segment.kind == "tensor"] == [("1",)]
    assert not marker.exists()


def test_no_module_that_a_checkpoint_names_is_imported(tmp_path: Path) -> None:
    (tmp_path / "attack.pt").write_bytes(in_zip(b"\x80\x02cantigravity\nfly\n)Rcthis\ns\n\x86."))
    code = (
        "import sys; from pathlib import Path; from castore.state.files import scan;"
        f"assert scan(Path({str(tmp_path / 'attack.pt')!r})).format == 'pt';"
        "print({'antigravity', 'this'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize("name", exhausting())
def test_bombs_are_bounded_in_memory_and_stack(tmp_path: Path, name: str) -> None:
    path = tmp_path / "attack.pt"
    path.write_bytes(in_zip(exhausting()[name]))
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60));"
        "from pathlib import Path; from castore.state.files import scan;"
        f"layout = scan(Path({str(path)!r}));"
        "assert sum(segment.nbytes for segment in layout.segments) == layout.size"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", lying())
def test_tensors_that_lie_never_reach_beyond_their_record(tmp_path: Path, name: str) -> None:
    layout = scanned(tmp_path, in_zip(lying()[name]))
    for segment in layout.segments:
        if segment.kind == "tensor":
            assert segment.nbytes == 64
            assert sum(map(len, segment.path)) <= 1024
