"""The element types of PyTorch and NumPy, as the names that a tree keeps (castore.dtypes) and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from castore import dtypes
from castore.errors import CorruptError, StateError

_MAX_SPEC_CHARS = 1 << 16

# By name, what this torch knows of castore's table: float8_e8m0fnu and float4_e2m1fn_x2 are younger than torch 2.4.
TORCH_BY_NAME: dict[str, torch.dtype] = {
    name: found for name in dtypes.BY_NAME if isinstance(found := getattr(torch, name, None), torch.dtype)
}
NAME_OF_TORCH: dict[torch.dtype, str] = {dtype: name for name, dtype in TORCH_BY_NAME.items()}


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a tree entry. Raises CorruptError for an unknown name, StateError for one this torch lacks."""
    try:
        return TORCH_BY_NAME[name]
    except KeyError:
        if dtypes.by_name(name) is dtypes.BYTES:
            raise CorruptError("a tensor of raw bytes: the tree is damaged") from None
        raise StateError(f"torch {torch.__version__} has no dtype {name}: load this state with a newer torch") from None


def stored_dtype(dtype: np.dtype[Any]) -> tuple[str, str]:
    """How an array of `dtype` is kept: (name in castore.dtypes, NumPy dtype string or "" where the name says it all).

    Elements without a name of their own (strings, records, long doubles) are "bytes" with one more dimension, the
    item size. Raises StateError for Python objects and for foreign dtypes whose description NumPy cannot read back.
    """
    if dtype.hasobject:
        raise StateError("holds Python objects: convert it to numbers or strings of a fixed width, or to a list")
    name = "int64" if dtype.kind in "mM" else dtype.name if dtype.kind in "biufc" else "bytes"
    if name not in dtypes.BY_NAME:
        name = "bytes"
    spec = numpy_spec(dtype)
    return name, "" if spec == np.dtype(name if name != "bytes" else "V1").str else spec


def swapped(dtype: np.dtype[Any]) -> bool:
    """Whether elements lie big-endian in memory and are kept little-endian. Records are kept as they lie."""
    return dtype.names is None and dtype.str[0] == ">"


def numpy_spec(dtype: np.dtype[Any]) -> str:
    """A dtype as text that `numpy_dtype` reads back: NumPy's own string, or JSON for records."""
    spec = _describe(dtype)
    return spec if isinstance(spec, str) else json.dumps(spec, separators=(",", ":"))


def _describe(dtype: np.dtype[Any]) -> Any:
    if dtype.hasobject:
        raise StateError("holds Python objects: convert it to plain values")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_describe(base), list(shape)]
    if dtype.names is None:
        if np.dtype(dtype.str) != dtype:
            raise StateError(f"has the foreign NumPy dtype {dtype}: view it as an integer dtype of the same width")
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names] if dtype.fields is not None else []
    if any(len(entry) > 2 for entry in fields):
        raise StateError("has a NumPy dtype with field titles: give it a dtype without titles")
    return {
        "names": list(dtype.names),
        "formats": [_describe(entry[0]) for entry in fields],
        "offsets": [entry[1] for entry in fields],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def numpy_dtype(name: str, spec: str) -> np.dtype[Any]:
    """The NumPy dtype that `stored_dtype` described. Raises CorruptError where the two don't make sense together."""
    expected = dtypes.by_name(name)
    try:
        if len(spec) > _MAX_SPEC_CHARS:
            raise ValueError("description too long")
        if spec:
            dtype = _understand(json.loads(spec) if spec.startswith("{") else spec)
        else:
            dtype = np.dtype("V1" if name == "bytes" else name)
    except (TypeError, ValueError, KeyError, SyntaxError, RecursionError) as error:
        raise CorruptError(f"no NumPy dtype {spec or name!r}: {error}") from None
    if dtype.hasobject or (expected is not dtypes.BYTES and dtype.itemsize != expected.width):
        raise CorruptError(f"NumPy dtype {spec!r} does not fit elements of {name}: the tree is damaged")
    return dtype


def _understand(spec: Any) -> np.dtype[Any]:
    if isinstance(spec, str):
        return np.dtype(spec)
    if isinstance(spec, list):
        base, shape = spec
        return np.dtype((_understand(base), tuple(shape)))
    layout = {key: spec[key] for key in ("names", "offsets", "itemsize")}
    layout["formats"] = [_understand(entry) for entry in spec["formats"]]
    described: Any = layout
    made: np.dtype[Any] = np.dtype(described, align=bool(spec["aligned"]))
    return made
