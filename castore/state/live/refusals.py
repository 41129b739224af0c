"""What to tell someone whose state holds a value that castore does not keep."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections import deque
from typing import Any

import numpy as np
import torch

from castore.errors import StateError
from castore.objects.nodes import Path

_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType, types.CodeType, type)
_BASES = (dict, list, tuple, set, frozenset, deque, str, bytes, bytearray, int, float, complex)


def shown(path: Path) -> str:
    """A path as messages show it, on one line."""
    text = ".".join(path)
    if not text:
        return "the state itself" if not path else "''"
    return text if text.isprintable() else repr(text)


def refusal(path: Path, value: Any) -> StateError:
    """The error for a value of a type that has no safe encoding."""
    kind = type(value)
    return StateError(f"{shown(path)}: cannot store a {kind.__module__}.{kind.__qualname__}: {_advice(value)}")


def _advice(value: Any) -> str:
    if isinstance(value, torch.nn.Module):
        return "commit model.state_dict() instead of the model"
    if isinstance(value, torch.Tensor):
        return tensor_advice(value)
    if isinstance(value, torch.Generator):
        return "commit generator.get_state() instead"
    if isinstance(value, torch.UntypedStorage | torch.TypedStorage):
        return "commit a tensor over it instead of the storage"
    if isinstance(value, np.ndarray):
        return "convert it with numpy.asarray()"
    if isinstance(value, enum.Enum):
        return "commit its .value or its .name"
    if isinstance(value, _CODE):
        return "code is not data: leave it out, or commit its name"
    if callable(getattr(value, "state_dict", None)):
        return "commit its state_dict() instead"
    if dataclasses.is_dataclass(value):
        return "convert it with dataclasses.asdict()"
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return "convert it with ._asdict() or tuple()"
    for base in _BASES:
        if isinstance(value, base):
            return f"subclasses are not kept: convert it to a plain {base.__name__}"
    if hasattr(value, "__next__"):
        return "convert it to a list"
    return "convert it to plain values"


def tensor_advice(value: torch.Tensor) -> str:
    """What to do instead, for a tensor that is not a plain one."""
    name = type(value).__name__
    if name in ("UninitializedParameter", "UninitializedBuffer"):
        return "it has no data yet: run a forward pass before you commit"
    if name == "DTensor":
        return "commit its local part, tensor.to_local(), from each rank"
    if name == "FakeTensor" or value.device.type == "meta":
        return "it has no data: commit the materialised tensor"
    if value.is_quantized:
        return "commit int_repr() with its scale and zero point, or dequantize()"
    if value.is_nested:
        return "commit list(tensor.unbind()) instead"
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return f"dtype {value.dtype} in layout {value.layout} has no encoding: convert it to another dtype or layout"
    return "convert it to a plain torch.Tensor"
