"""Which record a new chunk becomes a delta to: how deep chains of deltas get, and how far back they reach.

Where the chunk at the same place in the parent is itself as deep as deltas may be, the new chunk is not a delta to it
but to the record that it stands on. With a depth of one, all deltas of a chunk stand on one whole record, until they
reach back too far or save too little: a load decodes two records, however many commits there are.

Half-precision floats get chains: each doubling of the distance costs a delta half a bit a value, which is little of a
float32 and much of a bfloat16, and a chunk of theirs is half as long to decode (docs/performance.md has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass

from castore.chunks.decode import Decoder
from castore.chunks.index import Place
from castore.dtypes import DType

REST_GENERATIONS = 8


@dataclass(frozen=True, slots=True)
class DeltaLimits:
    """max_depth: deltas between a record and a standalone one; max_depth_half: the same for floats of 2 bytes.
    max_span: generations since the standalone one. All at most."""

    max_depth: int
    max_depth_half: int
    max_span: int

    def depth_of(self, dtype: DType) -> int:
        return self.max_depth_half if dtype.exponent and dtype.word == 2 else self.max_depth


@dataclass(frozen=True, slots=True)
class Base:
    """A record that a new chunk may be a delta to, and the generation that the new one has then."""

    id: bytes
    place: Place
    generation: int


def base_of(decoder: Decoder, parent_id: bytes, parent: Place, dtype: DType, limits: DeltaLimits) -> Base | None:
    """The base for a chunk whose parent's is `parent`; None when the new one is to stand alone.

    Raises CorruptError, MissingError when the parent's own bases can't be found.
    """
    if not parent.base and parent.generation:
        return None  # a delta did not pay lately: see `generation_of`
    generation = parent.generation + 1
    most = limits.depth_of(dtype)
    if most == 0 or generation > limits.max_span:
        return None
    chain = decoder.chains([parent])[0]  # from the standalone record to the parent's
    if len(chain) <= most:
        return Base(parent_id, parent, generation)
    depth = most - 1
    return Base(chain[depth + 1].base, chain[depth], generation)


def generation_of(base: Base | None, parent: Place | None, is_delta: bool) -> int:
    """What the new record's footer says: for a delta its generation; for a standalone one, how many more generations
    will not try a delta. Where one did not pay (exp_avg forgets within a few steps) it rarely does the next time, and
    decoding the base only to find that out would cost as much as encoding."""
    if is_delta and base is not None:
        return base.generation
    if base is not None:
        return REST_GENERATIONS if base.generation == 1 else 0  # one that reached too far back says nothing of the next
    if parent is not None and not parent.base and parent.generation:
        return parent.generation - 1
    return 0
