"""What the patterns of `only=` and of retention mean."""

from __future__ import annotations

import pytest

from castore.objects import nodes
from castore.objects.patterns import fitting, matches, may_touch


def tensor(name: str) -> nodes.Tensor:
    return nodes.Tensor("tensor", "float32", (1,), chunks=name.encode())


def view(base: int) -> nodes.View:
    return nodes.View(base, "tensor", "float32", (1,), (1,), 0)


def mapping(**items: nodes.Node) -> nodes.Map:
    return nodes.Map("dict", [(nodes.Value(name), item) for name, item in items.items()])


STATE = mapping(
    model=mapping(w=tensor("w"), head=nodes.Shared(0, tensor("shared"), view(0))),
    ema=mapping(w=tensor("ema"), head=view(0)),
    optimizer=nodes.Sequence("list", [mapping(exp_avg=tensor("m")), nodes.Compound("pair", [tensor("c")])]),
    step=nodes.Value(3),
)
FILES = nodes.Directory(
    {
        "optimizer.pt": nodes.File(4, "pt", [((), nodes.Value(b"zip")), (("exp_avg",), tensor("o"))]),
        "rank0": nodes.Directory({"model.pt": nodes.File(4, "pt", [(("w",), tensor("r"))])}),
    }
)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("model", "w"),
        ("model.w", "w"),
        ("model.", "w"),
        ("mod", ""),
        ("*.w", "w ema"),
        ("*", "w ema m c shared"),
        ("optimizer.?.exp_avg", "m"),
        ("optimizer.1", "c"),
        ("*.head", "shared"),  # all that look into the memory
        ("ema", "ema"),
        ("step", ""),
    ],
)
def test_tensors_of_a_state(pattern: str, found: str) -> None:
    assert {one.chunks.decode() for one in fitting(STATE, [pattern])} == set(found.split())


def test_memory_goes_when_each_of_its_paths_fits_some_pattern() -> None:
    assert {one.chunks for one in fitting(STATE, ["model", "ema"])} == {b"w", b"ema", b"shared"}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("optimizer", "o"),
        ("optimizer.pt", "o"),
        ("rank0", "r"),
        ("rank0/", "r"),
        ("*.pt", "o r"),
        ("*/model.pt", "r"),
        ("model.pt", ""),
        ("optimizer.pt.exp_avg", ""),  # half of a file is of no use
        ("exp_avg", ""),
    ],
)
def test_whole_files(pattern: str, found: str) -> None:
    assert {one.chunks.decode() for one in fitting(FILES, [pattern])} == set(found.split())


def test_a_component_may_hold_what_a_pattern_fits() -> None:
    assert may_touch("optimizer", ["optimizer"]) and may_touch("optimizer", ["optim*"])
    assert may_touch("optimizer", ["optimizer.state.*"]) and may_touch("optimizer", ["*.exp_avg"])
    assert may_touch("(others)", ["anything"])
    assert not may_touch("optimizer", ["model", "opt", "model.optimizer"])
    assert not matches(("optimizer",), [])
