"""Which record a new chunk becomes a delta to: how deep chains of deltas get, and how far back they reach.

Where the chunk at the same place in the parent is itself as deep as deltas may be, the new chunk is not a delta to it
but to the record that it stands on. With a depth of one, all deltas of a chunk stand on one whole record, until they
reach back too far or save too little: a load decodes two records, however many commits there are.

A record that has several bases lies above the deepest of them. The first is what it is most like, if it is as long;
else there is no likeness below it, and where the record is as deep as deltas may be, the new chunk stands alone.

Half-precision floats have a bound of their own: each doubling of the distance costs a delta half a bit a value, which
is little of a float32 and much of a bfloat16, so that chains save more of theirs (docs/performance.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass

from castore.chunks.closure import depths
from castore.chunks.decode import Decoder
from castore.chunks.index import Place
from castore.dtypes import DType

REST_GENERATIONS = 8


@dataclass(frozen=True, slots=True)
class DeltaLimits:
    """max_depth: deltas between a record and a standalone one; max_depth_half: the same for floats of 2 bytes.
    max_depth_predicted: of a record that is predicted from several. max_span: generations since the standalone one.
    All at most."""

    max_depth: int
    max_depth_half: int
    max_depth_predicted: int
    max_span: int

    def depth_of(self, dtype: DType) -> int:
        return self.max_depth_half if dtype.exponent and dtype.word == 2 else self.max_depth


@dataclass(frozen=True, slots=True)
class Base:
    """A record that a new chunk may be a delta to, its depth, and the generation that the new one has then."""

    id: bytes
    place: Place
    generation: int
    depth: int


def base_of(
    decoder: Decoder, parent_id: bytes, parent: Place, dtype: DType, limits: DeltaLimits, foreign: bool = False
) -> Base | None:
    """The base for a chunk whose parent's is `parent`; None when the new one is to stand alone.

    foreign: `parent` is a chunk of another tensor; how deltas fared there and how far they reach back says nothing.

    Raises CorruptError, MissingError when the parent's own bases can't be found.
    """
    if not parent.bases and parent.generation and not foreign:
        return None  # a delta did not pay lately: see `rest_of`
    generation = 1 if foreign else parent.generation + 1
    most = limits.depth_of(dtype)
    if most == 0 or generation > limits.max_span:
        return None
    needed = decoder.closure({parent_id: parent})
    depth = depths(needed)
    found = parent_id
    while depth[found] >= most:
        found = needed[found].bases[0]
        if needed[found].raw_length != parent.raw_length:
            return None  # what the parent was derived from, and no likeness of it
    return Base(found, needed[found], generation, depth[found])


def rest_of(base: Base | None, parent: Place | None) -> int:
    """What the footer of a new standalone record says: how many more generations will not try a delta.

    base: what was tried, in vain. Where a delta did not pay (exp_avg forgets within a few steps) it rarely does the
    next time, and decoding the base only to find that out would cost as much as encoding.
    """
    if base is not None:
        return REST_GENERATIONS if base.generation == 1 else 0  # one that reached too far back says nothing of the next
    if parent is not None and not parent.bases and parent.generation:
        return parent.generation - 1
    return 0
