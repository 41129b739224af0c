"""Hypothesis strategies for states, and the comparison that says whether one came back bit for bit."""

from __future__ import annotations

import argparse
import datetime
import pathlib
import struct
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch

from castore.state.live.elements import TORCH_BY_NAME

_TORCH_DTYPES = list(TORCH_BY_NAME.values())
_GRADIENTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
_NUMPY_DTYPES = [
    *("?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16"),
    *(">f4", ">i8", ">c16", ">U2", "<U3", "<U0", "S4", "V5", "<M8[ns]", "<M8[D]", ">m8[us]", "<m8"),
    [("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "S3")])],
]
_SCALARS = ["?", "u1", "<i2", "<i8", "<f2", "<f4", "<f8", "<c8", "<c16", "<M8[ns]", "<m8[s]", "V3"]
_LAYOUTS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    torch.Tensor.to_sparse,
    torch.Tensor.to_sparse_csr,
    torch.Tensor.to_sparse_csc,
]


def plain_values() -> st.SearchStrategy[Any]:
    """Leaves without a tensor: every kind that castore keeps."""
    return st.one_of(keys(), st.complex_numbers(), _any_float(), _leaf_objects(), numpy_scalars(), torch_constants())


def keys() -> st.SearchStrategy[Any]:
    """What may be a dict's key or a set's member."""
    one = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=4),
        st.binary(max_size=4),
    )
    return st.one_of(one, st.tuples(one, one), st.frozensets(one, max_size=2))


def _any_float() -> st.SearchStrategy[float]:
    """Every bit pattern, NaN payloads included."""
    return st.binary(min_size=8, max_size=8).map(lambda data: float(struct.unpack("<d", data)[0]))


def _leaf_objects() -> st.SearchStrategy[Any]:
    zones = st.sampled_from([None, datetime.timezone.utc, datetime.timezone(datetime.timedelta(hours=5.5), "IST")])
    small = st.integers(-5, 5)
    return st.one_of(
        st.binary(max_size=8).map(bytearray),
        st.builds(range, small, small, st.integers(1, 3)),
        st.builds(slice, small, st.none(), small),
        st.dates(),
        st.times(timezones=zones),
        st.datetimes(timezones=zones),
        st.timedeltas(),
        st.sampled_from([pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("c:/d"), pathlib.Path("e")]),
    )


def torch_constants() -> st.SearchStrategy[Any]:
    """dtypes, devices, layouts, memory formats and sizes."""
    return st.one_of(
        st.sampled_from([torch.float32, torch.bfloat16, torch.quint8, torch.bool, torch.complex64]),
        st.sampled_from([torch.device("cpu"), torch.device("cuda", 1), torch.device("cuda")]),
        st.sampled_from([torch.strided, torch.sparse_coo, torch.channels_last, torch.preserve_format]),
        st.lists(st.integers(0, 9), max_size=3).map(torch.Size),
    )


@st.composite
def numpy_scalars(draw: st.DrawFn) -> Any:
    """A NumPy scalar of any kind and any bits."""
    text = draw(st.one_of(st.none(), st.text(max_size=3).map(np.str_), st.binary(max_size=3).map(np.bytes_)))
    return draw(arrays(shape=(1,), dtypes=_SCALARS))[0] if text is None else text


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...] | None = None, dtypes: list[Any] = _NUMPY_DTYPES) -> Any:
    """A NumPy array of any dtype without objects, bits, order and strides."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = draw(_shapes()) if shape is None else shape
    array = np.zeros(shape, dtype)
    if array.nbytes:
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(_bits(draw, array.nbytes, dtype.kind), np.uint8)
    return draw(st.sampled_from([_same, _transposed, _strided]))(array)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """A torch tensor of any dtype and bits; strided, expanded, conjugated, negated, sparse; a parameter or a buffer."""
    dtype = draw(st.sampled_from(_TORCH_DTYPES))
    tensor = _filled(draw, dtype, draw(_shapes()))
    made: torch.Tensor = draw(
        st.sampled_from([_same, _transposed, _strided, _expanded, _conjugated, _negated, _sparse])
    )(tensor)
    if made.layout is not torch.strided:
        return made
    kind = draw(st.sampled_from(["tensor", "parameter", "buffer"]))
    requires_grad = dtype in _GRADIENTS and draw(st.booleans())
    if kind == "parameter":
        return torch.nn.Parameter(made, requires_grad)
    if kind == "buffer" and hasattr(torch.nn, "Buffer"):
        made = torch.nn.Buffer(made, persistent=draw(st.booleans()))
    return made.requires_grad_() if requires_grad else made


@st.composite
def states(draw: st.DrawFn, max_leaves: int = 16) -> Any:
    """Any nesting of containers over plain values, arrays and tensors, some of which share memory."""
    memory = [_filled(draw, torch.float32, (4, 6)), _filled(draw, torch.uint8, (64,))]
    views = st.sampled_from([_same, _transposed, _strided, _rows, _last_row, _as_bytes, torch.nn.Parameter])
    aliases = st.builds(lambda base, view: _viewed(memory[base], view), st.integers(0, 1), views)
    leaves = st.one_of(plain_values(), arrays(), tensors(), aliases, st.just(memory[0]))
    return draw(st.recursive(leaves, _containers, max_leaves=max_leaves))


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.text("abc", min_size=1, max_size=3)
    dicts = st.dictionaries(keys(), inner, max_size=3)
    return st.one_of(
        dicts,
        dicts.map(OrderedDict),
        dicts.map(_with_metadata),
        dicts.map(Counter),
        st.builds(defaultdict, st.sampled_from([list, dict, int, float, set, str, None]), dicts),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 2, 5])),
        st.sets(keys(), max_size=3),
        st.frozensets(keys(), max_size=3),
        st.dictionaries(names, inner, max_size=2).map(lambda values: argparse.Namespace(**values)),
        st.dictionaries(names, inner, max_size=2).map(lambda values: types.SimpleNamespace(**values)),
    )


def _with_metadata(items: dict[Any, Any]) -> OrderedDict[Any, Any]:
    made = OrderedDict(items)
    made._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return made


def _shapes() -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 4), max_size=3).map(tuple)


def _bits(draw: st.DrawFn, count: int, kind: str) -> bytes:
    seed = draw(st.integers(0, 2**32 - 1))
    words = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    if kind == "b":
        words &= 1  # other bytes are no booleans
    if kind == "U":
        words[:] = 0  # arbitrary words are no code points
    return words.tobytes()


def _filled(draw: st.DrawFn, dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=dtype)
    if tensor.numel():
        raw = _bits(draw, tensor.numel() * tensor.element_size(), "b" if dtype is torch.bool else "")
        tensor.reshape(-1).view(torch.uint8)[:] = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    return tensor


def _same(value: Any) -> Any:
    return value


def _transposed(value: Any) -> Any:
    return value.swapaxes(0, -1) if len(value.shape) > 1 else value


def _strided(value: Any) -> Any:
    return value[::2] if len(value.shape) else value


def _rows(value: torch.Tensor) -> torch.Tensor:
    return value[1:3]


def _last_row(value: torch.Tensor) -> torch.Tensor:
    return value[-1]


def _as_bytes(value: torch.Tensor) -> torch.Tensor:
    return value.view(torch.uint8)[..., 1:]


def _viewed(value: torch.Tensor, view: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    return torch.nn.Parameter(value, False) if view is torch.nn.Parameter else view(value)


def _expanded(value: torch.Tensor) -> torch.Tensor:
    return value.unsqueeze(0).expand(3, *value.shape)


def _conjugated(value: torch.Tensor) -> torch.Tensor:
    return value.conj() if value.dtype in (torch.complex64, torch.complex128) else value


def _negated(value: torch.Tensor) -> torch.Tensor:
    return value.conj().imag if value.dtype in (torch.complex64, torch.complex128) else value


def _sparse(value: torch.Tensor) -> torch.Tensor:
    if value.dim() != 2 or value.dtype not in (torch.float32, torch.int64):
        return value
    return _LAYOUTS[value.shape[0] % len(_LAYOUTS)](value)


def equal_states(a: Any, b: Any) -> bool:
    """Whether two states are the same bit for bit: types, order, NaN payloads, and which tensors share which memory.

    Strides and devices may differ, except that tensors that overlap must do so in the same way.
    """
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    return _equal(a, b, found) and _same_aliases(found)


def _equal(a: Any, b: Any, found: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return _equal_tensors(a, b, found)
    if isinstance(a, np.ndarray | np.generic):
        same = a.nbytes == b.nbytes == 0 or a.tobytes() == b.tobytes()  # of no bytes, NumPy gives those behind them
        return bool(a.dtype == b.dtype and a.shape == b.shape and same)
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return struct.pack("<dd", a.real, a.imag) == struct.pack("<dd", b.real, b.imag)
    return all(_equal(x, y, found) for x, y in _parts(a, b)) and _same_outside(a, b)


def _parts(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    """What containers hold, pairwise and in order."""
    if isinstance(a, dict):
        yield from zip(a.keys(), b.keys(), strict=False)
        yield from zip(a.values(), b.values(), strict=False)
    elif isinstance(a, set | frozenset):
        yield from zip(sorted(a, key=_rank), sorted(b, key=_rank), strict=False)
    elif isinstance(a, list | tuple | deque):
        yield from zip(a, b, strict=False)
    if hasattr(a, "__dict__") and isinstance(a, dict | argparse.Namespace | types.SimpleNamespace):
        yield vars(a), vars(b)


def _rank(value: Any) -> str:
    """A text by which members of a set can be put in order: `repr`, in which sets have none."""
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(map(_rank, value)))}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_rank, value))})"
    return repr(value)


def _same_outside(a: Any, b: Any) -> bool:
    """Whether two values of one type agree in what `_parts` does not show."""
    if isinstance(a, dict | list | tuple | set | frozenset | deque):
        names = ("default_factory", "maxlen")
        return len(a) == len(b) and all(getattr(a, name, None) == getattr(b, name, None) for name in names)
    if isinstance(a, argparse.Namespace | types.SimpleNamespace):
        return True
    if isinstance(a, datetime.datetime | datetime.time) and (a.fold, a.tzname()) != (b.fold, b.tzname()):
        return False
    return bool(a == b)


def _equal_tensors(a: torch.Tensor, b: torch.Tensor, found: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    marks = [(t.dtype, t.shape, t.layout, t.requires_grad, _buffer(t)) for t in (a, b)]
    if marks[0] != marks[1]:
        return False
    if a.layout is not torch.strided:
        return _equal(_sparse_parts(a), _sparse_parts(b), found)
    if a.numel() and not (a.is_conj() or a.is_neg()):
        found.append((a.detach(), b.detach()))
    return _bytes(a) == _bytes(b)


def _buffer(tensor: torch.Tensor) -> tuple[bool, bool]:
    return getattr(tensor, "_is_buffer", False), getattr(tensor, "persistent", True)


def _sparse_parts(tensor: torch.Tensor) -> tuple[Any, ...]:
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values(), tensor.is_coalesced()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    return tensor.ccol_indices(), tensor.row_indices(), tensor.values()


def _bytes(tensor: torch.Tensor) -> bytes:
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    out = torch.empty(tensor.shape, dtype=tensor.dtype)
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.element_size(), tensor.dtype)
    out.view(words).copy_(tensor.view(words))
    return out.reshape(-1).view(torch.uint8).numpy().tobytes() if out.numel() else b""


def _same_aliases(found: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    spans = [(_span(a), _span(b)) for a, b in found]
    for index, (a, b) in enumerate(spans):
        for other_a, other_b in spans[:index]:
            overlap = [max(x[0], y[0]) < min(x[1], y[1]) for x, y in ((a, other_a), (b, other_b))]
            if overlap[0] != overlap[1] or (overlap[0] and a[0] - other_a[0] != b[0] - other_b[0]):
                return False
    return True


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    reach = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
    return tensor.data_ptr(), tensor.data_ptr() + reach * tensor.element_size()
