from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from castore.objects.nodes import File, Tensor
from castore.state.files import Layout, scan

Segments = tuple[File, Callable[[Tensor, int, int], bytes]]


def assert_covers(layout: Layout, size: int) -> None:
    """The law of every layout: its segments are the file, in order."""
    position = 0
    for segment in layout.segments:
        assert segment.offset == position
        assert segment.nbytes > 0
        count = 1
        for dim in segment.shape:
            count *= dim
        assert count * segment.dtype.width == segment.nbytes
        assert (segment.path == ()) == (segment.kind == "bytes")
        position += segment.nbytes
    assert position == layout.size == size


def as_node(path: Path) -> Segments:
    """A file as a commit holds it, with its bytes read from the file itself."""
    layout = scan(path)
    node = File(layout.size, layout.format, note=layout.note)
    data = path.read_bytes()
    starts: dict[int, int] = {}
    for segment in layout.segments:
        tensor = Tensor(segment.kind, segment.dtype.name, segment.shape)
        starts[id(tensor)] = segment.offset
        node.segments.append((segment.path, tensor))

    def read(tensor: Tensor, first: int, nbytes: int) -> bytes:
        piece = data[starts[id(tensor)] + first : starts[id(tensor)] + first + nbytes]
        assert len(piece) == nbytes
        return piece

    return node, read


def raw(tensor: torch.Tensor) -> bytes:
    """A tensor's bytes in C order."""
    data: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data


def training_state() -> dict[str, object]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3))
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(torch.randn(5, 7)).sum().backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 2}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "step2.pt"
    torch.save(training_state(), path)
    return path
