"""Tensors inside torch's zip checkpoints (`torch.save` since 1.6)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from castore import limits
from castore.objects.nodes import Path
from castore.state.files.layout import ForeignContent, Layout, Segment, cover, plain_segment, tensor_segment
from castore.state.files.pickle_machine import Machine
from castore.state.files.skeleton import Mapping, Opaque, StorageRef, StorageUse, TensorRef
from castore.state.files.source import FileSource
from castore.state.files.zipdir import ZipDirectory, ZipEntry, data_offset, read_directory

_PICKLE = "data.pkl"
_MAX_PATH_CHARS = 1024  # of one tensor's path: names come from the file, and are kept for every tensor


def scan_pt(source: FileSource) -> Layout:
    """The layout of a torch zip. Raises ForeignContent for another zip, or one that can't be trusted."""
    directory = read_directory(source)
    root = _root(directory)
    _check_byte_order(source, directory, root)
    uses = read_skeleton(_record(source, directory, directory.entries[root + _PICKLE], limits.MAX_PICKLE_BYTES))
    prefix = root + "data/"
    segments: list[Segment] = []
    for entry in directory.entries.values():
        use = uses.get(entry.name.removeprefix(prefix)) if entry.name.startswith(prefix) else None
        if use is None or entry.nbytes == 0:
            continue
        if not entry.is_stored:
            raise ForeignContent("a storage is compressed")
        segments.append(_segment(use, data_offset(source, directory, entry), entry.nbytes))
    return cover(source.size, "pt", segments)


def _segment(use: StorageUse, offset: int, nbytes: int) -> Segment:
    shape = use.shape(nbytes)
    if shape is None:
        return plain_segment(offset, nbytes)
    path = use.path or (f"data/{use.ref.key[:_MAX_PATH_CHARS]}",)
    return tensor_segment(path, use.element(), shape, offset)


def read_skeleton(data: bytes) -> dict[str, StorageUse]:
    """Every storage that a `data.pkl` refers to, by key. Raises ForeignContent for what is no pickle in the limits."""
    machine = Machine(data)
    try:
        root = machine.run()
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise ForeignContent(f"data.pkl can't be understood: {type(error).__name__}") from None
    uses = {key: StorageUse(ref) for key, ref in machine.storages.items()}
    for tensor in machine.tensors:
        uses[tensor.storage.key].geometries.add(tensor.geometry)
    _find_paths(root, uses)
    return uses


def _root(directory: ZipDirectory) -> str:
    roots = [name.removesuffix(_PICKLE) for name in directory.entries if name.endswith("/" + _PICKLE)]
    if not roots:
        raise ForeignContent("zip without data.pkl")
    return min(roots, key=len)


def _check_byte_order(source: FileSource, directory: ZipDirectory, root: str) -> None:
    entry = directory.entries.get(root + "byteorder")
    if entry is not None and _record(source, directory, entry, 16) != b"little":
        raise ForeignContent("its numbers are not little-endian")


def _record(source: FileSource, directory: ZipDirectory, entry: ZipEntry, max_bytes: int) -> bytes:
    if not entry.is_stored:
        raise ForeignContent("zip entries are compressed")
    if entry.nbytes > max_bytes:
        raise ForeignContent(f"{entry.name[-40:]} is larger than the limit")
    return source.span(data_offset(source, directory, entry), entry.nbytes)


@dataclass(frozen=True, slots=True)
class _Place:
    """A path as a chain, so that a deep tree does not copy its path at every node."""

    above: _Place | None
    component: str
    depth: int

    def path(self) -> Path | None:
        """None when it is too long to keep."""
        components: list[str] = []
        place: _Place | None = self
        while place is not None and place.above is not None:
            components.append(place.component)
            place = place.above
        if sum(map(len, components)) > _MAX_PATH_CHARS:
            return None
        return tuple(reversed(components))


def _find_paths(root: object, uses: dict[str, StorageUse]) -> None:
    """Give each storage the path of the first tensor that uses it. Every object is visited once, however shared."""
    seen: set[int] = set()
    pending: list[tuple[object, _Place]] = [(root, _Place(None, "", 0))]
    while pending:
        item, place = pending.pop()
        if isinstance(item, (TensorRef, StorageRef)):
            use = uses[item.key if isinstance(item, StorageRef) else item.storage.key]
            if use.path is None:
                use.path = place.path()
        elif id(item) not in seen and place.depth < limits.MAX_TREE_NESTING:
            seen.add(id(item))
            for component, child in reversed(_children(item)):
                if isinstance(child, _BRANCHES):
                    below = place if component is None else _Place(place, component, place.depth + 1)
                    pending.append((child, below))


_BRANCHES = (TensorRef, StorageRef, Mapping, list, tuple, Opaque)


def _children(item: object) -> list[tuple[str | None, object]]:
    """(path component, object) below an object; no component for what shares the path of the object itself."""
    if isinstance(item, Mapping):
        return [(_key_text(key), value) for key, value in item.pairs if isinstance(value, _BRANCHES)]
    if isinstance(item, (list, tuple)):
        return [(str(index), value) for index, value in enumerate(item)]
    if isinstance(item, Opaque):
        return [(None, item.parts), *((None, part) for part in item.state)]
    return []


def _key_text(key: object) -> str:
    """As `nodes.key_text` has it for the same key of a live state; "?" for keys that are no plain values."""
    if isinstance(key, (str, int, float, type(None))):
        return str(key)
    if isinstance(key, tuple) and len(key) <= 8 and all(isinstance(part, (int, float)) for part in key):
        return "(" + ",".join(map(str, key)) + ")"
    return "?"
