"""A round trip through nodes, with the chunk store simulated by copying spans to sinks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from castore.objects import nodes
from castore.state.live import Builder, flatten
from castore.state.live.building import Sink
from castore.state.live.sources import TensorSource


def copy_spans(sources: list[TensorSource], sinks: list[Sink], rng: random.Random) -> None:
    for source, (entry, sink) in zip(sources, sinks, strict=True):
        assert entry is source.entry
        assert len(sink) == source.nbytes
        first = 0
        while first < source.numel:
            last = min(source.numel, first + rng.randint(1, 7))
            sink[first * source.width : last * source.width] = source.span(first, last)
            first = last


def build_again(state: Any, device: str | None = None, seed: int = 0) -> Any:
    flat = flatten(state)
    listed = list(nodes.tensors(flat.root))
    assert [path for path, _ in listed] == [source.path for source in flat.sources]
    assert all(entry is source.entry for (_, entry), source in zip(listed, flat.sources, strict=True))
    builder = Builder(flat.root, device)
    copy_spans(flat.sources, builder.sinks(), random.Random(seed))
    return builder.build()


@pytest.fixture(scope="session")
def round_trip() -> Callable[..., Any]:
    return build_again
