"""The parts of a tree, as typed values: what a state or a set of files looks like once its tensors are chunks.

How nodes become canonical CBOR, and how a large tree is cut into objects with fan-out, is `objects/tree.py`;
how live Python values become nodes and back is `state/`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

_LONG_INT_BITS = 1 << 13

Scalar = None | bool | int | float | str | bytes  # exact types only: subclasses are somebody's own and are refused
Reduced = tuple[type, tuple[object, ...]]  # what makes a node again. A state travels to the process that commits it as
# hundreds of nodes, and pickle's own way, a dict for each, takes twice as long.
Path = tuple[str, ...]  # keys and indices from the root, each as str(); shown joined by dots


@dataclass(slots=True)
class Value:
    """A plain value. Floats are kept bit for bit, NaN payloads included; ints may be of any size."""

    value: Scalar

    def __reduce__(self) -> Reduced:
        return Value, (self.value,)


@dataclass(slots=True)
class Tensor:
    """A dense tensor or array: contiguous bytes in C order, little-endian, cut into chunks.

    kind: how it comes back: "tensor", "parameter", "buffer", "transient_buffer" (not persistent), "array" (NumPy), or
    "bytes" and "bytearray" (long ones, and the plain parts of files).
    dtype: a name of `castore.dtypes`; numpy_dtype: the NumPy dtype string where `dtype` cannot tell it ("<U7", ">f4",
    "<M8[ns]"), else "".
    shape: in elements. requires_grad: as on the tensor. chunks: the chunk ids, one after another.
    dropped: why its data is gone, where retention dropped it; "" for what is there. Not part of the tree itself.
    """

    kind: str
    dtype: str
    shape: tuple[int, ...]
    requires_grad: bool = False
    numpy_dtype: str = ""
    chunks: bytes = b""
    dropped: str = ""

    def __reduce__(self) -> Reduced:
        plain = (self.kind, self.dtype, self.shape, self.requires_grad, self.numpy_dtype)
        return Tensor, (*plain, self.chunks, self.dropped)


@dataclass(slots=True)
class View:
    """A tensor that shares memory with others: it looks into a base that is stored once.

    base: number of the `Shared` of this tree. dtype, shape, stride: of this tensor, in its elements;
    offset: in bytes from the start of the base. kind, requires_grad: as in Tensor.
    """

    base: int
    kind: str
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    requires_grad: bool = False


@dataclass(slots=True)
class Shared:
    """A span of memory that several views of this tree look into; stands where the first of them was met."""

    number: int
    data: Tensor  # one dimension
    view: View


@dataclass(slots=True)
class Compound:
    """A value made of other nodes by a known constructor, e.g. "complex", "torch.dtype", "sparse_coo"."""

    kind: str
    parts: list[Node]


@dataclass(slots=True)
class Map:
    """A dict-like container in its own order. kind: "dict", "OrderedDict", "defaultdict", "Counter"."""

    kind: str
    items: list[tuple[Node, Node]]  # keys are Value or Compound ("tuple" keys too)

    def __reduce__(self) -> Reduced:
        return Map, (self.kind, self.items)


@dataclass(slots=True)
class Sequence:
    """A list-like container. kind: "list", "tuple", "set", "frozenset", "deque", "torch.Size"."""

    kind: str
    items: list[Node]


@dataclass(slots=True)
class File:
    """A file kept byte for byte: its segments one after another, each plain bytes or the data of a tensor.

    size: in bytes. format: "pt", "safetensors" or "plain". note: why a file that looks like a checkpoint is kept plain,
    else "". segments: (path of the tensor in the container, () for plain bytes; what holds its bytes). A few plain
    bytes, such as the header before each tensor of a .pt, are a Value in the tree itself.
    """

    size: int
    format: str
    segments: list[tuple[Path, Tensor | Value]] = field(default_factory=list)
    note: str = ""


@dataclass(slots=True)
class Directory:
    """Files by name; the root of a commit of files is one."""

    entries: dict[str, File | Directory]


Node = Value | Tensor | View | Shared | Compound | Map | Sequence | File | Directory


def value_text(value: Scalar) -> str:
    """A plain value as Python writes it, but for integers of thousands of digits: Python refuses to write those."""
    return hex(value) if type(value) is int and value.bit_length() > _LONG_INT_BITS else repr(value)


def key_text(key: Node) -> str:
    """The path component of a map's key."""
    if isinstance(key, Value):
        return key.value if isinstance(key.value, str) else value_text(key.value)
    if isinstance(key, Compound):
        return "(" + ",".join(key_text(part) for part in key.parts) + ")"
    return repr(key)


def tensors(node: Node, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Every Tensor below `node`, with its path, in the tree's order; as deep as limits.MAX_TREE_NESTING allows."""
    if isinstance(node, Tensor):
        yield path, node
    elif isinstance(node, Shared):
        yield path, node.data
    elif isinstance(node, Map):
        for key, item in node.items:
            if not isinstance(item, Value):  # most are, and a generator for each takes as long as all else
                yield from tensors(item, (*path, key_text(key)))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if not isinstance(item, Value):
                yield from tensors(item, (*path, str(index)))
    elif isinstance(node, Compound):
        for index, item in enumerate(node.parts):
            yield from tensors(item, (*path, str(index)))
    elif isinstance(node, File):
        for inside, data in node.segments:
            if isinstance(data, Tensor):
                yield (*path, *inside), data
    elif isinstance(node, Directory):
        for name, entry in node.entries.items():
            yield from tensors(entry, (*path, name))
