"""Trees that nobody vouches for: a Builder refuses each, and constructs or reaches nothing else."""

from __future__ import annotations

import pytest
import torch

from castore.errors import CorruptError
from castore.limits import MAX_TREE_NESTING
from castore.objects.nodes import Compound, File, Map, Node, Sequence, Shared, Tensor, Value, View
from castore.state.live import Builder


def view(
    shape: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0, base: int = 0, kind: str = "tensor"
) -> View:
    return View(base, kind, "float32", shape, stride, offset)


def shared(looking: View) -> Node:
    return Sequence("list", [Shared(0, Tensor("tensor", "uint8", (16,)), looking)])


def nested(depth: int) -> Node:
    node: Node = Value(1)
    for _ in range(depth):
        node = Sequence("list", [node])
    return node


HOSTILE: dict[str, Node] = {
    "view too long": shared(view(shape=(5,))),
    "view too far": shared(view(offset=4)),
    "view with a negative offset": shared(view(offset=-4)),
    "view out of alignment": shared(view(shape=(1,), offset=2)),
    "view with a negative stride": shared(view(stride=(-1,))),
    "view with a huge stride": shared(view(shape=(2,), stride=(1 << 61,))),
    "view with too few strides": shared(view(shape=(2, 2))),
    "view with a negative size": shared(view(shape=(-1,))),
    "view of unknown kind": shared(view(kind="object")),
    "view that overflows": shared(view(shape=(1 << 40, 1 << 40), stride=(0, 0))),
    "view of nothing": view(),
    "two bases of one number": Sequence("list", [shared(view()), shared(view())]),
    "base that is an array": Shared(0, Tensor("array", "uint8", (16,)), view()),
    "unknown compound": Compound("builtins.eval", [Value("1")]),
    "unknown map": Map("MyDict", []),
    "unknown sequence": Sequence("object", []),
    "unknown tensor kind": Tensor("module", "float32", (1,)),
    "unknown dtype": Tensor("tensor", "float31", (1,)),
    "tensor of bytes": Tensor("tensor", "bytes", (1,)),
    "negative shape": Tensor("tensor", "float32", (-1,)),
    "too large for its chunks": Tensor("tensor", "float32", (1 << 40,), chunks=b"x" * 16),
    "too large for anything": Tensor("tensor", "float32", (1 << 61,)),
    "empty but overflowing": Tensor("tensor", "float32", (0, 1 << 40, 1 << 40)),
    "too many dimensions": Tensor("tensor", "float32", (1,) * 65),
    "array of objects": Tensor("array", "bytes", (1, 8), numpy_dtype="O"),
    "array of objects in a record": Tensor(
        "array",
        "bytes",
        (1, 8),
        numpy_dtype='{"names":["a"],"formats":["O"],"offsets":[0],"itemsize":8,"aligned":false}',
    ),
    "array of another width": Tensor("array", "float32", (4,), numpy_dtype="<f8"),
    "array of items of another size": Tensor("array", "bytes", (4, 3), numpy_dtype="<U2"),
    "array without a dtype": Tensor("array", "bytes", (4, 1), numpy_dtype="{]"),
    "grad of integers": Tensor("tensor", "int64", (1,), requires_grad=True),
    "long bytes in two dimensions": Tensor("bytes", "bytes", (1, 1)),
    "device that is none": Compound("torch.device", [Value("nowhere"), Value(None)]),
    "dtype that is none": Compound("torch.dtype", [Value("load")]),
    "huge bytearray": Compound("bytearray", [Value(1 << 60)]),
    "huge bytes": Compound("numpy.bytes", [Value(1 << 60)]),
    "huge deque": Compound("deque", [Compound("range", [Value(0), Value(1 << 60), Value(1)]), Value(None)]),
    "scalar of objects": Compound("numpy.scalar", [Value("O"), Value(b"\0" * 8)]),
    "scalar of another size": Compound("numpy.scalar", [Value("<f8"), Value(b"\0")]),
    "namespace of a list": Compound("SimpleNamespace", [Sequence("list", [])]),
    "missing parts": Compound("range", []),
    "key that is a list": Map("dict", [(Sequence("list", []), Value(1))]),
    "key twice": Map("dict", [(Value(1), Value(1)), (Value(True), Value(1))]),
    "attribute of a dict": Map("dict", [(Compound("attribute", [Value("x")]), Value(1))]),
    "factory that is code": Map("defaultdict", [(Compound("attribute", [Value("default_factory")]), Value("eval"))]),
    "indices outside a sparse tensor": Compound(
        "sparse_coo",
        [
            Tensor("tensor", "int64", (1, 1)),
            Tensor("tensor", "float32", (1,)),
            Sequence("torch.Size", [Value(0)]),
            Value(False),
            Value("tensor"),
            Value(False),
        ],
    ),
    "size that is text": Sequence("torch.Size", [Value("x")]),
    "too deep": nested(MAX_TREE_NESTING + 2),
    "a file": File(0, "plain"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tree_is_corrupt(name: str) -> None:
    builder = Builder(HOSTILE[name])
    with pytest.raises(CorruptError) as caught:
        for _, sink in builder.sinks():
            sink[:] = bytes(len(sink))
        builder.build()
    assert "\n" not in str(caught.value)


def test_a_view_that_fits_is_made() -> None:
    builder = Builder(shared(view(shape=(2, 2), stride=(2, 1))))
    for _, sink in builder.sinks():
        sink[:] = bytes(len(sink))
    assert builder.build()[0].equal(torch.zeros(2, 2))
