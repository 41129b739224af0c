"""What the read-only operations answer with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from castore.objects.commit import ComponentStats


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One path of a diff.

    change: "added", "removed", "changed", "reshaped" (shape or dtype differ) or "unchanged".
    old, new: what is there, such as "float32[384, 1536]"; "" where there is nothing.
    relative_l2: ||new - old|| / ||old|| over all elements, in float64; None unless both are numbers of one shape
    and dtype.
    max_abs: the largest |new - old|, likewise.
    """

    path: str
    change: str
    old: str = ""
    new: str = ""
    relative_l2: float | None = None
    max_abs: float | None = None


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two commits: tensors and files by path, plain values in `values`."""

    old: str
    new: str
    tensors: tuple[TensorChange, ...]
    values: tuple[TensorChange, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many tensors were added, removed, changed, reshaped, unchanged."""
        counts: dict[str, int] = {}
        for entry in self.tensors:
            counts[entry.change] = counts.get(entry.change, 0) + 1
        return counts


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store holds.

    commits: reachable ones; dropped, partial: those of them that lost their state, or components of it.
    chunks: records that hold tensor or file data. raw_bytes: what all that is kept would take as whole copies.
    unique_bytes: raw bytes of the distinct chunks. stored_bytes: what the packs take on
    disk. standalone_bytes, delta_bytes: payload by kind of record; object_bytes: trees and commits.
    codecs: payload bytes by codec. components: sums over all commits by top-level name.
    """

    commits: int
    chunks: int
    raw_bytes: int
    unique_bytes: int
    stored_bytes: int
    standalone_bytes: int
    delta_bytes: int
    object_bytes: int
    packs: int
    codecs: Mapping[str, int] = field(default_factory=dict)
    components: Mapping[str, ComponentStats] = field(default_factory=dict)
    dropped: int = 0
    partial: int = 0


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One path of a commit.

    kind: "tensor", "array", "value", "file", ... shape: in elements, () for what has none. raw_bytes: of its data.
    value: a plain value as text, "" for data.
    """

    path: str
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    raw_bytes: int = 0
    value: str = ""
