"""Which of the store's tensors a new one's deltas are taken against."""

from __future__ import annotations

from collections.abc import Sequence

from castore.objects import nodes
from castore.objects.lineages import in_files
from castore.operations.nearest import Nearest
from castore.operations.sketches import is_sketched
from castore.operations.sources import Source


class Bases:
    """The parent's tensors: where a new tensor of the same path, dtype and shape finds the base of its deltas.

    A file rarely keeps its name (step100.pt, step200.pt), and a state may come once as a file and once from Python;
    so a path is also looked up without the names of files, where that is not ambiguous.

    A tensor that has no counterpart there takes the nearest one in the store, if there is one that is near.
    """

    def __init__(self, root: nodes.Node | None, nearest: Nearest | None = None) -> None:
        self._exact: dict[nodes.Path, nodes.Tensor] = {}
        self._inside: dict[nodes.Path, nodes.Tensor | None] = {}
        self._nearest = nearest
        self._foreign: dict[int, bytes] = {}
        self._whole: dict[int, Source] = {}
        if root is None:
            return
        # What retention dropped may be gone: that a chunk is in the parent's tree would be no proof that it is there.
        self._exact.update((path, data) for path, data in nodes.tensors(root) if not data.dropped)
        for depth, path, data in in_files(root):
            if data.dropped:
                continue
            inside = path[depth:]
            self._inside[inside] = None if inside in self._inside else data

    def chunks(self, path: nodes.Path, in_file: int, entry: nodes.Tensor) -> bytes:
        """The chunk ids of the counterpart by path, b"" for none. in_file: how many parts of the path name a file."""
        inside = path[in_file:]
        candidates = [self._exact.get(path)]
        if inside:  # () is a file's plain bytes: only the file of the same name is worth a look
            candidates += [self._inside.get(inside), self._exact.get(inside) if in_file else None]
        for found in candidates:
            if found is not None and (found.dtype, found.shape) == (entry.dtype, entry.shape):
                return found.chunks
        return b""

    def look_up(self, sources: Sequence[Source]) -> None:
        """Find the nearest tensors for those of `sources` that have no counterpart by path."""
        if self._nearest is None:
            return
        alone = [one for one in sources if is_sketched(one) and not self.chunks(one.path, one.in_file, one.entry)]
        self._whole = {id(one.entry): one for one in alone}
        self._foreign = self._nearest.choose(alone)

    def of(self, source: Source) -> bytes:
        """The chunk ids to take bases from, by path or else of the nearest tensor; b"" for none."""
        return self.chunks(source.path, source.in_file, source.entry) or self._foreign.get(id(source.entry), b"")

    def chunk_ids(self, sources: Sequence[Source], id_size: int) -> set[bytes]:
        """All of these, one by one."""
        lists = [self.of(source) for source in sources]
        return {ids[at : at + id_size] for ids in lists for at in range(0, len(ids), id_size)}

    def is_foreign(self, source: Source) -> bool:
        """Whether that is another tensor, not an earlier version of this one."""
        return id(source.entry) in self._foreign

    def stored_whole(self, source: Source) -> None:
        """Its first chunk became a record that stands alone, as deltas to the tensor are going to."""
        if is_sketched(source):
            self._whole[id(source.entry)] = source

    def sketches(self, sources: Sequence[Source]) -> dict[bytes, bytes | None]:
        """What changes among the index's sketches by a commit of `sources`, which are stored by now.

        A tensor gets one when it is new, and another one when it is stored whole again: what is stored in between are
        deltas to that, and what is near to them is near to it.
        """
        if self._nearest is None:
            return {}
        return self._nearest.changes(sources, self._whole)
