"""States as `.pt` and `.safetensors` files."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from castore import limits
from castore.dtypes import BY_NAME
from castore.errors import CastoreError, StateError, StorageError
from castore.state.files.safetensors import DTYPE_NAMES, PREFIX
from castore.state.files.target import OutputFile

if TYPE_CHECKING:
    import torch

_KINDS = {name: kind for kind, name in DTYPE_NAMES.items()}
_PIECE_BYTES = 8 * limits.MIB
_ALIGNMENT = 8  # of the data's start in the file, as the library has it


def write_pt(state: Any, path: Path, force: bool = False) -> None:
    """`torch.save` to `path`. Raises TargetExistsError, StorageError, and StateError for what torch can't save."""
    import torch

    with OutputFile.at(path, force) as out:
        sink = _Sink(out)
        try:
            torch.save(state, sink)  # type: ignore[arg-type]
        except CastoreError:
            raise
        except Exception as error:  # torch raises nearly anything, and wraps what the file object raised
            if sink.failure is not None:
                raise sink.failure from None
            why = " ".join(str(error).split())[:200]
            raise StateError(f"cannot write {path}: torch.save says {why!r}") from error


def write_safetensors(state: Any, path: Path, force: bool = False) -> list[str]:
    """Write the tensors of `state` to `path`, named by their paths joined by dots; tied tensors once for each name.

    Returns the paths of the leaves that are no tensors, which the format has no place for. Raises StateError when
    no tensor is left, two get the same name, or one is sparse, quantized or of a dtype that the format lacks;
    TargetExistsError; StorageError. Beyond the state, needs the memory of its largest non-contiguous tensor.
    """
    dropped: list[str] = []
    tensors = _named_tensors(state, dropped)
    if not tensors:
        raise StateError(f"cannot write {path}: the state has no tensors; its values are {_some(dropped)}")
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    at = 0
    for name in order:
        nbytes = tensors[name].numel() * tensors[name].element_size()
        header[name] = _entry(tensors[name], at, at + nbytes)
        at += nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    with OutputFile.at(path, force) as out:
        out.write(PREFIX.pack(len(text)) + text)
        for name in order:
            for piece in _pieces(tensors[name]):
                out.write(piece)
    return dropped


class _Sink:
    """What torch.save writes to. It replaces what `write` raises by an error of its own, so that is kept here."""

    def __init__(self, out: OutputFile) -> None:
        self._out = out
        self.failure: StorageError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            self._out.write(data)
        except StorageError as error:
            self.failure = error
            raise
        return len(data)

    def flush(self) -> None:
        pass


def _named_tensors(state: Any, dropped: list[str]) -> dict[str, torch.Tensor]:
    named: dict[str, torch.Tensor] = {}
    for path, leaf in _leaves(state, ()):
        name = ".".join(path)
        tensor = _as_tensor(leaf)
        if tensor is None:
            dropped.append(name)
            continue
        if name in named or name == "__metadata__":
            raise StateError(f"safetensors has one tensor by name, and {name!r} is taken; write a .pt instead")
        _check(name, tensor)
        named[name] = tensor
    return named


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if len(path) > limits.MAX_TREE_NESTING:
        raise StateError(f"the state is nested deeper than {limits.MAX_TREE_NESTING}, or contains itself")
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, str(index)))
    else:
        yield path, value


def _as_tensor(leaf: Any) -> torch.Tensor | None:
    """The leaf as a tensor: itself, or a NumPy array of a dtype that torch has; else None."""
    import numpy as np
    import torch

    if isinstance(leaf, torch.Tensor):
        return leaf.detach()
    if isinstance(leaf, np.ndarray) and leaf.dtype.name in BY_NAME and leaf.dtype.isnative:
        return torch.from_numpy(np.ascontiguousarray(leaf).reshape(leaf.shape).copy())
    return None


def _check(name: str, tensor: torch.Tensor) -> None:
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise StateError(f"safetensors has dense tensors only, and {name!r} is none; write a .pt instead")
    if _dtype_name(tensor) not in _KINDS:
        raise StateError(f"safetensors has no dtype {_dtype_name(tensor)}, which {name!r} has; write a .pt instead")


def _dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _entry(tensor: torch.Tensor, start: int, end: int) -> dict[str, object]:
    kind, shape = _KINDS[_dtype_name(tensor)], list(tensor.shape)
    if kind == "F4":  # the format counts elements, of which torch packs two in a byte
        shape[-1] *= 2
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def _pieces(tensor: torch.Tensor) -> Iterator[memoryview]:
    """A tensor's bytes in C order."""
    whole = tensor.resolve_conj().resolve_neg().cpu().contiguous()
    nbytes = whole.numel() * whole.element_size()
    if nbytes == 0:
        return
    # Not by NumPy, which lacks bfloat16 and the float8s. `whole` outlives the view.
    data = memoryview((ctypes.c_char * nbytes).from_address(whole.data_ptr())).cast("B")
    for start in range(0, nbytes, _PIECE_BYTES):
        yield data[start : start + _PIECE_BYTES]


def _some(paths: list[str]) -> str:
    shown = ", ".join(repr(path) for path in paths[:5]) or "none"
    return shown + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")
