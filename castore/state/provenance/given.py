"""What only the caller can tell of a run: its configuration, seeds of its own, its data, notes."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from castore.errors import UsageError
from castore.state.provenance.secrets import MASK, is_secret

Data = str | Path | Callable[[], "str | Path"]
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MOST_NESTING = 32
_BLOCK = 1 << 20


def flattened(config: object) -> dict[str, str]:
    """A mapping, dataclass or namespace (nested ones too) as texts by dotted names; secrets masked by their names.

    Raises UsageError for what has no names.
    """
    mapping = _mapping(config)
    if mapping is None:
        raise UsageError(
            f"a configuration is a mapping, a dataclass or an object with attributes, not {type(config).__name__}"
        )
    return dict(_walk(mapping, "", 0))


def _mapping(value: object) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, enum.Enum | type | Path) or callable(value):
        return None
    attributes = getattr(value, "__dict__", None)  # argparse.Namespace and the like
    return attributes if type(value).__module__ not in ("builtins", "torch") and attributes else None


def _walk(mapping: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MOST_NESTING:
        raise UsageError(f"the configuration nests deeper than {_MOST_NESTING}, or holds itself, at {prefix[:80]}")
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        inner = _mapping(value)
        if inner is None and isinstance(value, list | tuple) and any(_mapping(item) for item in value):
            inner = dict(enumerate(value))
        if inner:
            yield from _walk(inner, f"{name}.", depth + 1)
        else:
            yield name, MASK if _hides(str(key), value) else _text(value)


def _hides(key: str, value: object) -> bool:
    return is_secret(key) and isinstance(value, str | bytes) and len(value) > 0


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, type) or callable(value):
        name = getattr(value, "__qualname__", None)
        return _ADDRESS.sub("", repr(value)) if name is None else f"{value.__module__}.{name}"
    return str(value) if isinstance(value, Path | enum.Enum) else _ADDRESS.sub("", repr(value))


def data_version(data: Data) -> dict[str, str]:
    """What data is trained on: a version as text; or of a file that lists it (a manifest) the name, size and BLAKE3.

    A text that names a file counts as that file. A callable is called for either. Raises UsageError for a path that is
    no file.
    """
    if callable(data):
        data = data()
    if not isinstance(data, str | Path):
        raise UsageError(f"data is a text, a path, or a function that gives one, not {type(data).__name__}")
    path = Path(data)
    kind = _kind(path)
    if kind == "a file":
        return _manifest(path)
    if isinstance(data, Path) or kind == "a directory":
        raise UsageError(
            f"{path} is {kind}; give a manifest of the data (a file that lists it, such as "
            "`find DIR -type f | sort | xargs sha256sum` prints), or a version as text"
        )
    return {"version": data}


def _kind(path: Path) -> str:
    try:
        return "a file" if path.is_file() else "a directory" if path.is_dir() else "no file"
    except OSError:  # too long for a name
        return "no file"


def _manifest(path: Path) -> dict[str, str]:
    import blake3

    hasher = blake3.blake3()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
            size += len(block)
    return {"manifest": str(path), "bytes": str(size), "blake3": hasher.hexdigest()}


def noted(notes: str | Mapping[str, str]) -> dict[str, str]:
    """Notes by name; a text is named "notes"."""
    return {"notes": notes} if isinstance(notes, str) else {str(name): str(text) for name, text in notes.items()}
