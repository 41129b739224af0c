"""Predictions of new chunks: which records they would need, how deep that makes them, and the bytes of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castore.chunks.bases import DeltaLimits
from castore.chunks.closure import depths
from castore.chunks.decode import Decoder, Wanted
from castore.chunks.index import Place
from castore.errors import MissingError

if TYPE_CHECKING:
    from castore.codecs.predicted import Prediction


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a chunk may be predicted from. predictor, factors: see `codecs.predicted`.

    bases: each a number, of an earlier put of the same call, or the id of a chunk that the store has.
    """

    predictor: int
    bases: tuple[int | bytes, ...]
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """A prediction, and what the record that uses it is: its bases' ids, its depth and its generation."""

    prediction: Prediction
    bases: tuple[bytes, ...]
    depth: int
    generation: int


class Foresight:
    """One session's predictions. Remembers how deep the session's own records are; safe from many threads."""

    def __init__(self, decoder: Decoder, limits: DeltaLimits) -> None:
        self._decoder = decoder
        self._limits = limits
        self._depths: dict[bytes, int] = {}

    def learn(self, chunk_id: bytes, depth: int) -> None:
        """Of a record that the session wrote, or is about to."""
        self._depths[chunk_id] = depth

    def forget(self, chunk_id: bytes) -> None:
        """Of a record that has to be written anew."""
        self._depths.pop(chunk_id, None)

    def outlook(
        self,
        foreseen: Foreseen,
        bases: Sequence[tuple[bytes, memoryview | None]],
        chunk_id: bytes,
        parent: Place | None,
    ) -> Outlook | None:
        """The prediction of a chunk from its bases' ids and bytes (None: decoded here); None beyond the limits.

        A base that is neither in the store nor written by this session yet is none: bases come before what needs them,
        so that no circle can arise. Raises CorruptError, MissingError when one can't be decoded.
        """
        generation = parent.generation + 1 if parent is not None and parent.bases else 1
        ids = tuple(base_id for base_id, _ in bases)
        if chunk_id in ids or generation > self._limits.max_span or not self._limits.max_depth_predicted:
            return None
        places: dict[bytes, Place] = {}
        for base_id, raw in bases:
            if base_id in self._depths:
                continue
            try:
                places[base_id] = self._decoder.places((base_id,))[0]
            except MissingError:
                if raw is None:
                    raise
                return None  # another thread is about to write it
        needed = depths(self._decoder.closure(places)) if places else {}
        depth = 1 + max(self._depths[base_id] if base_id in self._depths else needed[base_id] for base_id in ids)
        if depth > self._limits.max_depth_predicted:
            return None
        return Outlook(self._prediction(foreseen, bases), ids, depth, generation)

    def _prediction(self, foreseen: Foreseen, bases: Sequence[tuple[bytes, memoryview | None]]) -> Prediction:
        from castore.codecs.predicted import Prediction

        missing = [base_id for base_id, raw in bases if raw is None]
        wanted = [
            Wanted(base_id, place, self._decoder.scratch(f"base {number}", place.raw_length))
            for number, (base_id, place) in enumerate(zip(missing, self._decoder.places(missing), strict=True))
        ]
        self._decoder.decode(wanted)
        decoded = {one.id: one.out for one in wanted}
        raws = [raw if raw is not None else decoded[base_id] for base_id, raw in bases]
        return Prediction(foreseen.predictor, raws, foreseen.factors)
