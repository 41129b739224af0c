"""Plain leaves that are more than one scalar: a name, the exact type, its parts, and how they make it again.

A new kind is one line in `_LEAVES`. Parts are states themselves, so they need no encoding of their own. `make` gets
values from a tree that nobody vouches for: it constructs nothing but its own kind, and any error it raises is reported
as damage.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from castore.state.live.elements import numpy_dtype, numpy_spec

_DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_LAYOUTS = {str(value): value for value in vars(torch).values() if isinstance(value, torch.layout)}
_MEMORY_FORMATS = {str(value): value for value in vars(torch).values() if isinstance(value, torch.memory_format)}


@dataclass(frozen=True, slots=True)
class Leaf:
    """kind: its name in trees. parts: what it is made of. make: the inverse. key: whether it may be a dict's key."""

    kind: str
    type: type
    parts: Callable[[Any], tuple[Any, ...]]
    make: Callable[..., Any]
    key: bool = True


def _exactly(kind: type, value: Any) -> Any:
    """`value`, which must be a `kind`: many constructors take an int or an iterable and allocate whatever it says."""
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _make_str(data: Any) -> str:
    return str(_exactly(bytes, data), "utf-8", "surrogatepass")


def _scalar_parts(value: np.generic) -> tuple[Any, ...]:
    return numpy_spec(value.dtype), value.tobytes()


def _make_scalar(spec: str, data: bytes) -> Any:
    dtype = numpy_dtype("bytes", spec)
    if dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for a scalar of {dtype}")
    array = np.zeros((), dtype)
    if data:
        array.reshape(1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    return array[()]


def _make_namespace(kind: type) -> Callable[[dict[str, Any]], Any]:
    def make(attributes: dict[str, Any]) -> Any:
        if type(attributes) is not dict or not all(type(name) is str for name in attributes):
            raise TypeError("attributes that are not a dict by name")
        made = kind()
        vars(made).update(attributes)
        return made

    return make


def _make_path(kind: type[pathlib.PurePath]) -> Callable[[str], pathlib.PurePath]:
    def make(text: str) -> pathlib.PurePath:
        try:
            return kind(text)
        except NotImplementedError:  # a path of the other system: UnsupportedOperation from Python 3.13 on is one too
            return (pathlib.PureWindowsPath if "Windows" in kind.__name__ else pathlib.PurePosixPath)(text)

    return make


def _make_time(hour: int, minute: int, second: int, us: int, fold: int, tz: datetime.tzinfo | None) -> datetime.time:
    return datetime.time(hour, minute, second, us, tz, fold=fold)


def _make_datetime(date: datetime.date, time: datetime.time) -> datetime.datetime:
    return datetime.datetime.combine(date, time)


def _device_parts(value: torch.device) -> tuple[Any, ...]:
    return value.type, value.index


def _make_device(kind: str, index: int | None) -> torch.device:
    return torch.device(kind) if index is None else torch.device(kind, index)


_LEAVES: tuple[Leaf, ...] = (
    Leaf("complex", complex, lambda v: (v.real, v.imag), complex),
    Leaf("torch.dtype", torch.dtype, lambda v: (str(v).removeprefix("torch."),), _DTYPES.__getitem__),
    Leaf("torch.device", torch.device, _device_parts, _make_device),
    Leaf("torch.layout", torch.layout, lambda v: (str(v),), _LAYOUTS.__getitem__),
    Leaf("torch.memory_format", torch.memory_format, lambda v: (str(v),), _MEMORY_FORMATS.__getitem__),
    Leaf("range", range, lambda v: (v.start, v.stop, v.step), range),
    Leaf("slice", slice, lambda v: (v.start, v.stop, v.step), slice, key=False),
    Leaf("str", str, lambda v: (v.encode("utf-8", "surrogatepass"),), _make_str),
    Leaf("bytearray", bytearray, lambda v: (bytes(v),), lambda v: bytearray(_exactly(bytes, v)), key=False),
    Leaf("deque", deque, lambda v: (list(v), v.maxlen), lambda v, n: deque(_exactly(list, v), n), key=False),
    Leaf("date", datetime.date, lambda v: (v.year, v.month, v.day), datetime.date),
    Leaf(
        "time",
        datetime.time,
        lambda v: (v.hour, v.minute, v.second, v.microsecond, v.fold, v.tzinfo),
        _make_time,
    ),
    Leaf("datetime", datetime.datetime, lambda v: (v.date(), v.timetz()), _make_datetime),
    Leaf("timedelta", datetime.timedelta, lambda v: (v.days, v.seconds, v.microseconds), datetime.timedelta),
    Leaf("timezone", datetime.timezone, lambda v: v.__getinitargs__(), datetime.timezone),
    *(
        Leaf(f"pathlib.{kind.__name__}", kind, lambda v: (str(v),), _make_path(kind))
        for kind in (pathlib.PurePosixPath, pathlib.PureWindowsPath, pathlib.PosixPath, pathlib.WindowsPath)
    ),
    Leaf(
        "argparse.Namespace", argparse.Namespace, lambda v: (vars(v),), _make_namespace(argparse.Namespace), key=False
    ),
    Leaf(
        "SimpleNamespace",
        types.SimpleNamespace,
        lambda v: (vars(v),),
        _make_namespace(types.SimpleNamespace),
        key=False,
    ),
    Leaf("numpy.str", np.str_, lambda v: (str(v),), np.str_),
    Leaf("numpy.bytes", np.bytes_, lambda v: (bytes(v),), lambda v: np.bytes_(_exactly(bytes, v))),
    Leaf("numpy.scalar", np.generic, _scalar_parts, _make_scalar),
)

BY_KIND = {leaf.kind: leaf for leaf in _LEAVES}
BY_TYPE = {leaf.type: leaf for leaf in _LEAVES if leaf.type is not np.generic}
for _kind in {*np.sctypeDict.values(), np.longlong, np.ulonglong} - {np.object_}:
    BY_TYPE.setdefault(_kind, BY_KIND["numpy.scalar"])
