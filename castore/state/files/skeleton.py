"""What a torch checkpoint's `data.pkl` says about storages and tensors, found without running any of it.

Why not `pickle.Unpickler` with an inert `find_class`: the C unpickler still allocates whatever a length or a memo
index claims, hashes tuples nested a million deep (a crash, not an exception), sets attributes on whatever lies on its
stack, and takes extension codes from a registry of the process. The interpreter in `pickle_machine.py` only ever makes
the types of this module and plain values. Dicts are lists of pairs, so that no key is ever hashed or compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeGuard

from castore import limits
from castore.dtypes import BY_NAME, DType
from castore.objects.nodes import Path

_UINT8 = BY_NAME["uint8"]
_STORAGES = {
    "Byte": "uint8",
    "Char": "int8",
    "Bool": "bool",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Float": "float32",
    "Double": "float64",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QUInt8": "uint8",
    "QInt8": "int8",
    "QInt32": "int32",
    "QUInt4x2": "uint8",
    "QUInt2x4": "uint8",
}


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A name that the pickle refers to. It is never looked up."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class StorageRef:
    """A reference to the record `data/KEY`. dtype: None for an untyped storage, whose `numel` counts bytes."""

    key: str
    dtype: DType | None
    numel: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a tensor looks into a storage: offset and stride in elements of `dtype` (None: the storage's)."""

    dtype: DType | None
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def is_whole(self, numel: int) -> bool:
        """Whether it is contiguous from the storage's start and covers all `numel` elements."""
        expected = 1
        for size, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if size != 1 and step != expected:
                return False
            expected *= size
        return self.offset == 0 and expected == numel


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor that the pickle would rebuild."""

    storage: StorageRef
    geometry: Geometry


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """A dict, OrderedDict or the like."""

    pairs: list[tuple[object, object]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Opaque:
    """Any other object: what it would be made from, and what it would be given afterwards."""

    parts: tuple[object, ...] = ()
    state: list[object] = field(default_factory=list)


@dataclass(slots=True)
class StorageUse:
    """What is known of one storage: the tensors in it, and the path of the first of them."""

    ref: StorageRef
    geometries: set[Geometry] = field(default_factory=set)
    path: Path | None = None

    def element(self) -> DType:
        """The dtype of its elements: an untyped storage has that of its tensors, if they agree."""
        if self.ref.dtype is not None:
            return self.ref.dtype
        found = {geometry.dtype or _UINT8 for geometry in self.geometries}
        return found.pop() if len(found) == 1 else _UINT8

    def shape(self, nbytes: int) -> tuple[int, ...] | None:
        """Its shape as one segment of `nbytes`; None when the record's length is not what the pickle says."""
        element = self.element()
        width = 1 if self.ref.dtype is None else element.width
        if self.ref.numel * width != nbytes or nbytes % element.width:
            return None
        numel = nbytes // element.width
        if len(self.geometries) == 1:
            (only,) = self.geometries
            if (only.dtype or element) == element and only.is_whole(numel):
                return only.shape
        return (numel,)


def persistent(pid: object) -> object:
    """torch's persistent id ("storage", class, key, location, numel) as a StorageRef."""
    if type(pid) is not tuple or len(pid) != 5 or pid[0] != "storage":
        return Opaque((pid,))
    _, kind, key, _, numel = pid
    if not isinstance(kind, Global) or type(key) is not str or type(numel) is not int or numel < 0:
        return Opaque((pid,))
    name = kind.name.rpartition(".")[2].removesuffix("Storage")
    if name == "Untyped":
        return StorageRef(key, None, numel)
    return StorageRef(key, BY_NAME[_STORAGES[name]], numel) if name in _STORAGES else Opaque((pid,))


def call(target: object, args: object) -> object:
    """What calling a global with these arguments would give, as far as tensors are concerned."""
    if type(args) is not tuple:
        return Opaque((target, args))
    while isinstance(target, Global) and target.name == "torch._tensor._rebuild_from_type_v2" and len(args) == 4:
        target, inner = args[0], args[2]
        if type(inner) is not tuple:
            return Opaque((target, inner))
        args = inner
    if not isinstance(target, Global):
        return Opaque((target, args))
    module, _, name = target.name.rpartition(".")
    if module == "torch._utils":
        return _rebuilt(name, args)
    if target.name in ("collections.OrderedDict", "collections.defaultdict", "collections.Counter"):
        return _mapping(args)
    if target.name == "torch.Size" and len(args) == 1:
        return args[0]
    return Opaque(args)


def _rebuilt(name: str, args: tuple[object, ...]) -> object:
    if name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_qtensor"):
        return _tensor(args, None)
    if name == "_rebuild_tensor_v3" and len(args) >= 7 and isinstance(args[6], Global):
        dtype = BY_NAME.get(args[6].name.removeprefix("torch."), _UINT8)
        return _tensor(args, dtype)
    if name.startswith(("_rebuild_parameter", "_rebuild_device_tensor_from_cpu")) and args:
        return args[0]
    return Opaque(args)


def _tensor(args: tuple[object, ...], dtype: DType | None) -> object:
    storage, offset, shape, stride = args[:4] if len(args) >= 4 else (None, None, None, None)
    if not isinstance(storage, StorageRef) or type(offset) is not int:
        return Opaque(args)
    if not _is_sizes(shape) or not _is_sizes(stride) or len(shape) != len(stride):
        return Opaque(args)
    return TensorRef(storage, Geometry(dtype, offset, shape, stride))


def _is_sizes(value: object) -> TypeGuard[tuple[int, ...]]:
    if type(value) is not tuple or len(value) > limits.MAX_TENSOR_DIMS:
        return False
    for size in value:  # noqa: SIM110 - twice as fast as all(), and called twice for each tensor
        if type(size) is not int or size < 0:
            return False
    return True


def _mapping(args: tuple[object, ...]) -> object:
    """A dict type called with nothing, a factory or a dict. Never a copy: a loop of calls would multiply its size."""
    if len(args) > 2 or any(type(arg) is list for arg in args):
        return Opaque(args)
    return next((arg for arg in args if isinstance(arg, Mapping)), None) or Mapping()
