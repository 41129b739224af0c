"""The step counters of optimizers, in the state that is being committed and in its parent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from castore.errors import CorruptError
from castore.objects import nodes
from castore.operations.bases import Bases
from castore.operations.sources import Source
from castore.repo import Repository

_DTYPES = ("float32", "float64", "int32", "int64")


class Counters:
    """Reads the numbers that 0-dimensional tensors hold."""

    def __init__(self, repo: Repository, sources: Sequence[Source], bases: Bases) -> None:
        self._repo = repo
        self._sources = {source.path: source for source in sources}
        self._bases = bases

    def __call__(self, path: nodes.Path) -> tuple[float, float] | None:
        """The number at `path` now and in the parent; None if it is no such tensor, or not to be read."""
        source = self._sources.get(path)
        if source is None or source.entry.dtype not in _DTYPES or math.prod(source.entry.shape) != 1:
            return None
        before = self._bases.chunks(path, source.in_file, source.entry)
        if len(before) != self._repo.hash.size:
            return None
        try:
            old = self._repo.chunks.chunk(before)
        except CorruptError:
            return None  # no formula then; the chunk itself is reported when it is to be a base
        new = bytes(source.read(0, source.nbytes))
        kind = np.dtype(source.entry.dtype).newbyteorder("<")
        return float(np.frombuffer(new, kind)[0]), float(np.frombuffer(old, kind)[0])
