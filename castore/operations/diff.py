"""Diff: what changed between two commits, per tensor, without either state in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

from castore import dtypes
from castore.objects import nodes
from castore.operations.fetch import SegmentReader, raw_bytes
from castore.operations.reports import Diff, TensorChange
from castore.repo import Repository
from castore.state.files.reader import segment_bytes

_PIECE_BYTES = 4 << 20


def diff(repo: Repository, old: str, new: str) -> Diff:
    """Compare two commits. Tensors whose chunks are the same are not read. Raises CorruptError, MissingError."""
    old_id, new_id = repo.resolve(old), repo.resolve(new)
    before, after = (_inside(repo.tree(repo.commit(commit))) for commit in (old_id, new_id))
    tensors = tuple(_tensor_changes(repo, dict(_tensors(before)), dict(_tensors(after))))
    values = tuple(_value_changes(dict(_values(before)), dict(_values(after))))
    return Diff(old_id, new_id, tensors, values)


def _inside(root: nodes.Node) -> nodes.Node:
    """The root, or what is in it if that is one file: step100.pt is compared with step200.pt, and with a live state."""
    if isinstance(root, nodes.Directory) and len(root.entries) == 1:
        return next(iter(root.entries.values()))
    return root


def _tensors(root: nodes.Node) -> Iterator[tuple[str, nodes.Tensor]]:
    """Tensors by dotted path; the plain bytes of a file together count as one."""
    for path, entry in nodes.tensors(root):
        if entry.kind != "bytes" or entry.dtype != "bytes":
            yield ".".join(path), entry
    yield from _plain(root, ())


def _plain(node: nodes.Node, path: nodes.Path) -> Iterator[tuple[str, nodes.Tensor]]:
    if isinstance(node, nodes.Directory):
        for name, entry in node.entries.items():
            yield from _plain(entry, (*path, name))
    elif isinstance(node, nodes.File):
        parts = [data for inside, data in node.segments if not inside]
        size = sum(map(segment_bytes, parts))
        content = b"".join(part.chunks if isinstance(part, nodes.Tensor) else repr(part).encode() for part in parts)
        yield ".".join(path) or "(bytes of the file)", nodes.Tensor("bytes", "bytes", (size,), chunks=content)


def _described(entry: nodes.Tensor) -> str:
    if entry.kind == "bytes":
        return f"{entry.shape[0]} bytes"
    return f"{entry.numpy_dtype or entry.dtype}{list(entry.shape)}"


def _tensor_changes(
    repo: Repository, before: dict[str, nodes.Tensor], after: dict[str, nodes.Tensor]
) -> Iterator[TensorChange]:
    repo.progress.start("Comparing", len(after.keys() | before.keys()), "tensors")
    for path in [*after, *(path for path in before if path not in after)]:
        old, new = before.get(path), after.get(path)
        if old is None and new is not None:
            yield TensorChange(path, "added", new=_described(new))
        elif new is None and old is not None:
            yield TensorChange(path, "removed", old=_described(old))
        elif old is not None and new is not None:
            yield _changed(repo, path, old, new)
        repo.progress.advance(1)
    repo.progress.finish()


def _changed(repo: Repository, path: str, old: nodes.Tensor, new: nodes.Tensor) -> TensorChange:
    texts = _described(old), _described(new)
    if old.kind == new.kind == "bytes":
        return TensorChange(path, "unchanged" if old.chunks == new.chunks else "changed", *texts)
    if (old.dtype, old.numpy_dtype, old.shape) != (new.dtype, new.numpy_dtype, new.shape):
        return TensorChange(path, "reshaped", *texts)
    if old.chunks == new.chunks:
        return TensorChange(path, "unchanged", *texts)
    relative, largest = _distance(repo, old, new)
    return TensorChange(path, "changed", *texts, relative, largest)


def _distance(repo: Repository, old: nodes.Tensor, new: nodes.Tensor) -> tuple[float | None, float | None]:
    """(||new - old|| / ||old||, max |new - old|) in float64; only chunks that differ add to the difference."""
    if old.dropped or new.dropped or old.numpy_dtype or dtypes.by_name(old.dtype) in (dtypes.BYTES,):
        return None, None
    import torch

    dtype = getattr(torch, old.dtype, None)
    if dtype is None or old.dtype.startswith("float4"):
        return None, None
    wide = torch.complex128 if dtype.is_complex else torch.float64
    squares = norm = largest = 0.0
    for a, b in _pieces(repo, old, new):
        x, y = (torch.frombuffer(piece, dtype=dtype).to(wide) for piece in (a, b))
        delta = (y - x).abs()
        norm += float((x.abs() ** 2).sum())
        squares += float((delta**2).sum())
        step = float(delta.max())
        largest = step if math.isnan(step) else max(largest, step)
    if norm == 0.0:
        return (math.inf if squares else 0.0), largest
    return math.sqrt(squares / norm), largest


def _pieces(repo: Repository, old: nodes.Tensor, new: nodes.Tensor) -> Iterator[tuple[bytearray, bytearray]]:
    readers = SegmentReader(repo, old), SegmentReader(repo, new)
    size = raw_bytes(old)
    for offset in range(0, size, _PIECE_BYTES):
        pair = (bytearray(min(_PIECE_BYTES, size - offset)), bytearray(min(_PIECE_BYTES, size - offset)))
        for reader, piece in zip(readers, pair, strict=True):
            reader.read_into(offset, memoryview(piece))
        yield pair


def _values(node: nodes.Node, path: nodes.Path = ()) -> Iterator[tuple[str, str]]:
    if isinstance(node, nodes.Value):
        yield ".".join(path), nodes.value_text(node.value)
    elif isinstance(node, nodes.Map):
        for key, item in node.items:
            yield from _values(item, (*path, nodes.key_text(key)))
    elif isinstance(node, nodes.Sequence) and all(isinstance(item, nodes.Value) for item in node.items):
        values = [nodes.value_text(item.value) for item in node.items if isinstance(item, nodes.Value)]
        yield ".".join(path), f"[{', '.join(values)}]"
    elif isinstance(node, nodes.Sequence | nodes.Compound):
        parts = node.items if isinstance(node, nodes.Sequence) else node.parts
        for index, item in enumerate(parts):
            yield from _values(item, (*path, str(index)))


def _value_changes(before: dict[str, str], after: dict[str, str]) -> Iterator[TensorChange]:
    for path in [*after, *(path for path in before if path not in after)]:
        old, new = _short(before.get(path)), _short(after.get(path))
        if path not in before:
            yield TensorChange(path, "added", new=new)
        elif path not in after:
            yield TensorChange(path, "removed", old=old)
        else:
            yield TensorChange(path, "unchanged" if before[path] == after[path] else "changed", old, new)


def _short(text: str | None) -> str:
    if text is None:
        return ""
    return text if len(text) <= 60 else f"{text[:57]}..."
