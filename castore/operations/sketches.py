"""The index's sketches (`codecs.sketch`) of stored tensors: one for each lineage, that is a branch and a name in it.

A key is a dtype and a digest of a shape, then a digest of the lineage; a value the ids of the tensor's chunks, then the
sketch. So the sketches of one dtype and shape lie together. A value of one id alone is of a tensor that no sketch can
tell from others.

Sketches are hints. They are lost with the index, and with chunks that gc takes. What is missing is made again when it
is needed, a few at a time, from the parent's tree and the tips of branches and tags, until a mark (an empty value) says
that nothing is missing: under the first part of the key for one dtype and shape, under b"\\0" for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

import xxhash

from castore import dtypes
from castore.errors import CorruptError, DroppedError
from castore.objects import nodes
from castore.objects.lineages import of_tree
from castore.operations.sources import Source
from castore.repo import Repository

_LEAST_BYTES = 64 << 10  # smaller tensors are not worth a look-up
_MOST_CHUNKS = 64 << 10  # of a tensor: all their ids are in the value
_MOST_SKETCHES, _MOST_SKETCH_BYTES = 4096, 16 << 20  # of one dtype and shape that are looked at
_MOST_TREES, _MOST_TREE_TENSORS = 8, 20_000  # that missing sketches are made from in one commit
_GROUP_BYTES = 9
_ALL = b"\0"  # as a dtype it would be plain bytes

Kind = tuple[str, tuple[int, ...]]  # dtype, shape
_Tensors = Mapping[bytes, nodes.Tensor]  # by the keys of their sketches


def is_sketched(source: Source) -> bool:
    """Whether tensors like this have sketches: large ones of floats of 2 or 4 bytes."""
    if source.nbytes < _LEAST_BYTES:
        return False
    dtype = dtypes.by_name(source.entry.dtype)
    return bool(dtype.exponent) and dtype.word in (2, 4)


def kind_of(entry: nodes.Tensor) -> Kind:
    return entry.dtype, entry.shape


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored tensor that may be near: its key, its chunk ids, and the sketch of this or an earlier version of it."""

    key: bytes
    chunks: bytes
    sketch: bytes


class Sketches:
    """The sketches as one commit to a branch sees them, and what becomes of them by it.

    changes: for `Index.update`.
    """

    def __init__(self, repo: Repository, branch: str, parent: nodes.Node | None) -> None:
        """parent: the tree that the branch has now."""
        self._repo = repo
        self._branch = branch
        self._parent = parent
        self._parents: dict[Kind, _Tensors] = {}
        self._others: list[dict[Kind, _Tensors]] | None = None
        self._wanted: Set[Kind] = frozenset()
        self.changes: dict[bytes, bytes | None] = {}

    def want(self, kinds: Set[Kind]) -> None:
        """Say first which candidates will be asked for."""
        self._wanted = kinds
        if kinds and self._parent is not None:
            self._parents = self._by_kind(self._branch, self._parent)

    def candidates(self, kind: Kind, budget: int) -> list[Candidate]:
        """The stored tensors of one dtype and shape. budget: how many of those that lack a sketch get one now."""
        from castore.codecs import sketch

        group, use = _group(kind), self._repo.chunks.access.use
        table = use(lambda index: index.sketches(group, _MOST_SKETCHES, _MOST_SKETCH_BYTES))
        is_whole = table.pop(group, None) is not None or bool(use(lambda index: index.sketches(_ALL, 1, 1)))
        newest = self._parents.get(kind, {})
        trees = [newest] if is_whole else [newest, *(tree.get(kind, {}) for tree in self._other_trees())]
        missing = [(key, entry) for tree in trees for key, entry in tree.items() if key not in table]
        for key, value in self._repo.chunks.pool.map(lambda one: (one[0], self._made(one[1])), missing[:budget]):
            table[key] = self.changes[key] = value
        if not is_whole and len(missing) <= budget:
            self.changes[group] = b""
        found = []
        for key, value in table.items():
            end = len(value) - sketch.size(dtypes.by_name(kind[0]))
            if end > 0 and end % self._repo.hash.size == 0:
                chunks = newest[key].chunks if key in newest else value[:end]
                found.append(Candidate(key, chunks, value[end:]))
        return found

    def forget(self, candidate: Candidate) -> None:
        """Its chunks are gone. Those of a later version may be there, whose sketch is missing now."""
        self.changes |= {candidate.key: None, candidate.key[:_GROUP_BYTES]: None, _ALL: None}

    def keep(self, entry: nodes.Tensor, name: nodes.Path, sketch: bytes | None) -> None:
        """Of a tensor that is being committed."""
        self.changes[_key(kind_of(entry), self._branch, name)] = self._value(entry, sketch)

    def begin(self) -> None:
        """If this is the store's first commit, nothing is missing from now on."""
        if self._parent is None and not self._repo.refs.branch_names() and not self._repo.refs.tag_names():
            self.changes[_ALL] = b""

    def _value(self, entry: nodes.Tensor, sketch: bytes | None) -> bytes:
        size = self._repo.hash.size
        if sketch is None or len(entry.chunks) > _MOST_CHUNKS * size:
            return entry.chunks[:size]
        return entry.chunks + sketch

    def _made(self, entry: nodes.Tensor) -> bytes:
        """The value of a stored tensor: its first chunk is decoded."""
        from castore.codecs.sketch import size, sketch

        dtype, made = dtypes.by_name(entry.dtype), None
        try:
            raw = self._repo.chunks.chunk(entry.chunks[: self._repo.hash.size])
        except CorruptError:
            pass  # reported where it is to be loaded
        else:
            if len(raw) >= size(dtype) and len(raw) % dtype.word == 0:
                made = sketch(raw, dtype)
        return self._value(entry, made)

    def _other_trees(self) -> list[dict[Kind, _Tensors]]:
        """The wanted tensors at the tips of other branches and of tags."""
        if self._others is None:
            self._others = []
            refs, met = self._repo.refs, 0
            try:
                tips = {f"tags/{name}": one for name, one in refs.tags().items()} | refs.branches()
            except CorruptError:  # of another ref: no reason not to commit to this one
                return self._others
            here = tips.pop(self._branch, None)
            names = {one: name for name, one in tips.items() if one != here}  # a branch's rather than a tag's
            for commit_id in list(names)[:_MOST_TREES]:
                try:
                    root = self._repo.tree(self._repo.commit(commit_id))
                except (CorruptError, DroppedError):
                    continue
                self._others.append(self._by_kind(names[commit_id], root))
                met += sum(1 for _ in nodes.tensors(root))
                if met > _MOST_TREE_TENSORS:
                    break
        return self._others

    def _by_kind(self, branch: str, root: nodes.Node) -> dict[Kind, _Tensors]:
        """The wanted tensors of a branch's tree."""
        found: dict[Kind, dict[bytes, nodes.Tensor]] = {}
        for name, entry in of_tree(root):
            kind = kind_of(entry)
            if kind in self._wanted:
                found.setdefault(kind, {})[_key(kind, branch, name)] = entry
        return dict(found)


def _group(kind: Kind) -> bytes:
    return bytes([dtypes.by_name(kind[0]).code]) + xxhash.xxh3_64_digest(repr(kind[1]).encode())


def _key(kind: Kind, branch: str, name: nodes.Path) -> bytes:
    return _group(kind) + xxhash.xxh3_128_digest("\0".join((branch, *name)).encode("utf-8", "surrogatepass"))
